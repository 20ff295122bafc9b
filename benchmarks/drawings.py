"""Write the drawings of the documentation: boxes, arrows and words, in a light and a dark variant.

python benchmarks/drawings.py           # writes docs/images/drawing-*.svg
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

IMAGES = Path(__file__).parents[1] / "docs" / "images"


class Scheme(NamedTuple):
    """The colours of one variant."""

    name: str
    text: str
    dim: str
    line: str
    host: str
    device: str
    file: str
    good: str
    bad: str


SCHEMES = (
    Scheme("light", "#222", "#555", "#555", "#dceaf5", "#dcf0e8", "#fff", "#009E73", "#D55E00"),
    Scheme("dark", "#eee", "#bbb", "#aaa", "#1d3a52", "#174436", "#2a2d36", "#2fc79a", "#f08a4b"),
)


class Drawing:
    """Collects the parts of one SVG file; coordinates are pixels from the upper left corner."""

    def __init__(self, scheme: Scheme, width: int, height: int, title: str) -> None:
        self.scheme = scheme
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}"'
            ' font-family="system-ui, sans-serif" font-size="14">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            f'<path d="M0 0 8 4 0 8z" fill="{scheme.line}"/></marker></defs>',
        ]

    def text(self, x: float, y: float, words: str, *, dim: bool = False, anchor: str = "middle") -> None:
        colour = self.scheme.dim if dim else self.scheme.text
        size = ' font-size="12"' if dim else ""
        self.parts.append(f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}"{size}>{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, *lines: str) -> None:
        """A box of kind host, device or file; the first line is its name, the others explain it."""
        paint = f'fill="{getattr(self.scheme, kind)}" stroke="{self.scheme.line}"'
        self.parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" {paint}/>')
        top = y + height / 2 - (len(lines) - 1) * 8.5 + 5
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + number * 17, line, dim=number > 0)

    def arrow(self, path: str) -> None:
        self.parts.append(f'<path d="{path}" fill="none" stroke="{self.scheme.line}" marker-end="url(#tip)"/>')

    def line(self, path: str, colour: str, width: float = 2) -> None:
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        self.parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="{colour}"/>')

    def diamond(self, x: float, y: float, colour: str) -> None:
        self.parts.append(f'<path d="M{x} {y - 8} {x + 8} {y} {x} {y + 8} {x - 8} {y}z" fill="{colour}"/>')

    def save(self, name: str) -> None:
        file = IMAGES / f"drawing-{name}-{self.scheme.name}.svg"
        file.write_text("\n".join([*self.parts, "</svg>", ""]), encoding="utf-8")
        print(file)


def chain(scheme: Scheme) -> None:
    drawing = Drawing(scheme, 860, 250, "Train, prune, export and quantize on a computer; run on a device")
    drawing.text(20, 24, "on a computer", dim=True, anchor="start")
    drawing.text(690, 24, "on the device, without torch", dim=True, anchor="start")
    drawing.box(20, 40, 120, 60, "file", "pictures", "and labels")
    drawing.box(180, 40, 120, 60, "host", "train", "or bring a model")
    drawing.box(340, 40, 120, 60, "host", "prune", "optional")
    drawing.box(500, 40, 140, 60, "host", "export --int8", "checked with torch")
    drawing.box(690, 40, 160, 60, "file", "one file", "ONNX, OpenVINO, TFLite")
    for start, end in ((140, 178), (300, 338), (460, 498), (640, 688)):
        drawing.arrow(f"M{start} 70H{end}")
    drawing.box(690, 150, 160, 60, "device", "run", "camera to masks")
    drawing.arrow("M770 100V148")
    drawing.box(340, 150, 300, 60, "host", "report", "accuracy, its loss, size, time")
    drawing.arrow("M240 100V180H338")
    drawing.arrow("M400 100V148")
    drawing.arrow("M690 95 642 150")
    drawing.save("chain")


def loop(scheme: Scheme) -> None:
    drawing = Drawing(scheme, 860, 270, "The camera loop: reader, newest frame, model, outputs")
    drawing.box(20, 60, 110, 60, "file", "camera", "or stream, file")
    drawing.box(180, 40, 150, 100, "device", "reader", "a process for each", "source; scales to the", "model's input")
    drawing.box(380, 60, 130, 60, "file", "newest frame", "nothing is queued")
    drawing.box(560, 60, 110, 60, "device", "model", "boxes, masks")
    drawing.box(720, 40, 120, 100, "device", "outputs", "page, recording,", "JSON, MQTT,", "webhook")
    for start, end in ((130, 178), (330, 378), (510, 558), (670, 718)):
        drawing.arrow(f"M{start} 90H{end}")
    drawing.arrow("M445 120V178")
    drawing.text(445, 198, "dropped: late, limited, damaged, paused, failed", dim=True)
    drawing.arrow("M255 140V218H75V122")
    drawing.text(265, 236, "no frame for 2 s: the process is killed and a new one opens the source", dim=True)
    drawing.text(430, 262, "received = processed + dropped + in flight, for each source", dim=False)
    drawing.save("loop")


def report(scheme: Scheme) -> None:
    drawing = Drawing(scheme, 860, 300, "How to read two charts of the report")
    drawing.text(30, 22, "AP over latency", anchor="start")
    drawing.line("M40 40V250H400", scheme.line, 1)
    drawing.text(400, 270, "ms, left is better", dim=True, anchor="end")
    drawing.text(46, 50, "AP, up is better", dim=True, anchor="start")
    drawing.line("M100 170 170 110 330 90", scheme.good)
    drawing.diamond(100, 170, scheme.good)
    drawing.diamond(170, 110, scheme.good)
    drawing.dot(330, 90, scheme.good)
    drawing.dot(300, 190, scheme.bad)
    drawing.text(112, 190, "diamond: INT8", dim=True, anchor="start")
    drawing.text(330, 74, "circle: float", dim=True)
    drawing.text(180, 132, "green line: no other model is", dim=True, anchor="start")
    drawing.text(180, 147, "both faster and more accurate", dim=True, anchor="start")
    drawing.text(300, 214, "below the line: another model is better", dim=True)

    drawing.text(460, 22, "Change of AP with its 95 % interval", anchor="start")
    drawing.line("M650 40V250", scheme.line, 1)
    drawing.text(650, 270, "0: as the reference", dim=True)
    drawing.line("M575 90H690", scheme.good, 3)
    drawing.dot(630, 90, scheme.good)
    drawing.text(460, 85, "contains 0: these", dim=True, anchor="start")
    drawing.text(460, 101, "pictures show no", dim=True, anchor="start")
    drawing.text(460, 117, "loss", dim=True, anchor="start")
    drawing.line("M480 170H600", scheme.bad, 3)
    drawing.dot(540, 170, scheme.bad)
    drawing.text(662, 175, "left of 0: a loss", dim=True, anchor="start")
    drawing.line("M575 230H840", scheme.dim, 3)
    drawing.dot(670, 230, scheme.dim)
    drawing.text(460, 226, "wide: use more", dim=True, anchor="start")
    drawing.text(460, 242, "pictures", dim=True, anchor="start")
    drawing.save("report")


def main() -> None:
    for scheme in SCHEMES:
        for draw in (chain, loop, report):
            draw(scheme)


if __name__ == "__main__":
    main()

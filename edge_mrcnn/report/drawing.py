"""Parts of charts in inline SVG: scales, text, and labels without overlap.

Colours are CSS classes of the page, so that one drawing works in light, dark and print.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
Box = tuple[float, float, float, float]

WIDTH = 440
"""Width of every chart, in units: text of 11 units is readable on a phone and not too large on a desktop."""
LINE = 16
"""Height of a line of text, in units: of 13 units, as on a phone."""
LETTER = 6.7
"""Mean width of such a letter, in units."""
SIDES = ((9, 0.0), (-9, -1.0), (0, -0.5))
OFFSETS = [
    *((9, -8, 0.0), (-9, -8, -1.0), (0, -25, -0.5), (0, 9, -0.5)),
    *((dx, dy, share) for dy in (-25, 9, -42, 27, -59, 44, -76, 61) for dx, share in SIDES),
]
"""Positions of a label in order of preference: shift in x and y, and share of its width, from the point."""


def tag(name: str, text: str = "", **attributes: object) -> str:
    """One SVG element; `cls` becomes `class`, underscores hyphens. `text` is escaped unless it is markup already."""
    given = ""
    for key, value in attributes.items():
        attribute = "class" if key == "cls" else key.replace("_", "-")
        given += f' {attribute}="{plain(value)}"'
    return f"<{name}{given}>{text}</{name}>" if text else f"<{name}{given}/>"


def text(content: str, x: float, y: float, **attributes: object) -> str:
    """A line of text; its baseline starts at (x, y)."""
    return tag("text", html.escape(content), x=x, y=y, **attributes)


def level_line(y: float, left: float, right: float, style: str) -> str:
    """A horizontal line of a CSS class."""
    return tag("line", x1=left, x2=right, y1=y, y2=y, cls=style)


def upright_line(x: float, top: float, bottom: float, style: str) -> str:
    """A vertical line of a CSS class."""
    return tag("line", x1=x, x2=x, y1=top, y2=bottom, cls=style)


def drawing(parts: Sequence[str], height: float, title: str) -> str:
    """A complete chart, with a title for screen readers."""
    body = tag("title", html.escape(title)) + "".join(parts)
    return tag("svg", body, viewBox=f"0 0 {WIDTH} {plain(height)}", role="img", cls="chart")


@dataclass(frozen=True)
class Scale:
    """From values to drawing units, linear."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        clipped = min(max(value, self.low), self.high)
        return self.start + (clipped - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the range, about `count` of them."""
        step = _round_up((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def _round_up(step: float) -> float:
    """The next larger of 1, 2, 2.5 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    for multiple in (1, 2, 2.5, 5):
        if power * multiple >= step * 0.999:
            return power * multiple
    return power * 10


def place_labels(
    widths: Sequence[float], points: Sequence[Point], frame: Box, obstacles: Sequence[Box] = ()
) -> list[Box]:
    """A free position for the label of each point, the first of `OFFSETS` without overlap.

    Args:
        widths: Widths of the labels.
        points: Points of the labels.
        frame: Area of the labels.
        obstacles: Other elements to avoid, such as lines.

    Returns:
        One box x0 y0 x1 y1 for each label.
    """
    taken = list(obstacles)
    for x, y in points:
        taken.append((x - 7, y - 7, x + 7, y + 7))

    def hidden(box: Box) -> float:
        """How much of a label would be unreadable in that position."""
        return sum(overlap(box, other) for other in taken) + _outside(box, frame)

    placed = []
    for width, (x, y) in zip(widths, points, strict=True):
        boxes = []
        for dx, dy, share in OFFSETS:
            left, top = x + dx + width * share, y + dy
            boxes.append((left, top, left + width, top + LINE))
        best = min(boxes, key=hidden)
        taken.append(best)
        placed.append(best)
    return placed


def point_labels(names: Sequence[str], points: Sequence[Point], frame: Box, obstacles: Sequence[Box] = ()) -> list[str]:
    """The name of each point beside it, with a line to the point if the name is not near; see `place_labels`."""
    names = [shorten(name, 30) for name in names]
    widths = [LETTER * len(name) for name in names]
    boxes = place_labels(widths, points, frame, obstacles)
    parts = []
    for name, (x, y), (left, top, right, bottom) in zip(names, points, boxes, strict=True):
        middle = (left + right) / 2
        is_near = top - 12 <= y <= bottom + 12
        if not is_near:
            facing = bottom if bottom < y else top
            parts.append(tag("line", x1=x, y1=y, x2=middle, y2=facing, cls="leader"))
        parts.append(text(name, middle, bottom - 3, cls="label", text_anchor="middle"))
    return parts


def overlap(a: Box, b: Box) -> float:
    """Area that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


def _outside(box: Box, frame: Box) -> float:
    """A penalty above any overlap for the part outside the frame."""
    beyond = (frame[0] - box[0], frame[1] - box[1], box[2] - frame[2], box[3] - frame[3])
    return 1000.0 * sum(max(0.0, length) for length in beyond)


def shorten(name: str, length: int) -> str:
    """A name, shortened at the end if it is too long."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


def number(value: float) -> str:
    """A tick label with a minus sign."""
    if abs(value) <= 1e-9:
        return "0"
    return f"{value:.10g}".replace("-", "−")


def plain(value: object) -> str:
    """An attribute: two decimals at most, escaped."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return html.escape(str(value))

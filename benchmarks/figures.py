"""Draw the figures of the documentation from recorded results and from its own tables, so that they cannot differ.

    python benchmarks/figures.py            # writes docs/images/figure-*.svg, a light and a dark one of each

benchmarks/results holds what commands wrote, and the tables hold what the commands beside them printed. The colours are
those of Okabe and Ito, which people with colour-blindness can tell apart. Needs matplotlib.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parents[1] / "docs"
IMAGES = DOCS / "images"
RESULTS = Path(__file__).parent / "results"
RUNTIMES = ("ONNX Runtime", "OpenVINO", "TFLite")
RUNTIME_KEYS = ("onnx", "openvino", "tflite")
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7")
MARKERS = ("o", "s", "^", "D", "v", "P")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")

Rows = list[list[str]]


class Scheme(NamedTuple):
    """The colours of one variant of a figure."""

    name: str
    text: str
    grid: str


SCHEMES = (Scheme("light", "#222222", "#cccccc"), Scheme("dark", "#dddddd", "#555555"))


def read_table(page: str, heading: str) -> Rows:
    """The cells of a Markdown table.

    Args:
        page: A file below docs.
        heading: How the first line of the table begins.

    Returns:
        Rows of cells as text. An empty first cell takes the one above it.

    Raises:
        ValueError: If no table of the page begins so.
    """
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(heading)]
    if not starts:
        raise ValueError(f"docs/{page}: expected a table that begins with {heading!r}")
    rows: Rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not cells[0] and rows:
            cells[0] = rows[-1][0]
        rows.append(cells)
    return rows


def numbers(cell: str) -> list[float]:
    """Every number in a cell."""
    return [float(text) for text in NUMBER.findall(cell)]


def plain(cell: str) -> str:
    """A cell without Markdown's signs."""
    return cell.replace("`", "").replace("**", "")


# --- what each figure shows -------------------------------------------------------------------------------------------


def peers() -> dict[int, dict[str, list[float]]]:
    """Input size -> model -> ms from a frame to masks on each runtime; INT8, 5 objects."""
    record = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))
    panels: dict[int, dict[str, list[float]]] = {}
    for row in record["rows"]:
        if row["precision"] != "int8" or row["objects"] != 5:
            continue
        models = panels.setdefault(row["size"], {})
        times = models.setdefault(row["model"], [0.0] * len(RUNTIMES))
        times[RUNTIME_KEYS.index(row["runtime"])] = row["results"]
    return panels


def changes() -> dict[str, dict[str, dict[str, list[float]]]]:
    """box or mask -> data set -> runtime -> [change, low, high] of AP by INT8 in points."""
    record = json.loads((RESULTS / "people.json").read_text(encoding="utf-8"))
    found: dict[str, dict[str, dict[str, list[float]]]] = {"box": {}, "mask": {}}
    for row in record["rows"]:
        if row["precision"] != "int8":
            continue
        runtime = RUNTIMES[RUNTIME_KEYS.index(row["target"])]
        for data, score in row["scores"].items():
            for metric, of_metric in found.items():
                drop = score[f"{metric}_drop"]
                low, high = drop["interval"]
                by_runtime = of_metric.setdefault(data, {})
                by_runtime[runtime] = [-100 * drop["value"], -100 * high, -100 * low]
    return found


def pruning() -> dict[str, list[list[float]]]:
    """FP32 or runtime -> [GMAC, mask AP, low, high] of the garments model, unpruned and pruned.

    The interval is that of the change against the unpruned FP32 model, which has none itself."""
    points: dict[str, list[list[float]]] = {}
    for name in ("garments", "garments-pruned"):
        record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        (data,) = (data["label"] for data in record["data"])
        reference = 100 * record["rows"][0]["scores"][data]["mask"]
        for row in record["rows"]:
            drop = row["scores"][data]["mask_drop"]
            series = "FP32" if row["precision"] == "fp32" else f"INT8, {RUNTIMES[RUNTIME_KEYS.index(row['target'])]}"
            value = 100 * row["scores"][data]["mask"]
            low, high = (reference - 100 * end for end in reversed(drop["interval"])) if drop else (value, value)
            point = [row["macs"] / 1e9, value, low, high]
            if point not in points.setdefault(series, []):
                points[series].append(point)
    return points


def accuracy() -> dict[str, list[list[float]]]:
    """Model -> [ms, mask AP] on each runtime: time to results with 5 objects, AP after the same short training."""
    record = json.loads((RESULTS / "accuracy.json").read_text(encoding="utf-8"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in record["lines"][2:]]
    times = peers()
    points: dict[str, list[list[float]]] = {}
    for model, runtime, size, _, mask, _ in rows:
        ms = times[int(size)][model][RUNTIME_KEYS.index(runtime)]
        points.setdefault(model, []).append([ms, float(mask)])
    return points


def growth() -> dict[str, dict[str, list[list[float]]]]:
    """What grows -> runtime -> [its value, ms] of each point."""
    panels: dict[str, dict[str, list[list[float]]]] = {}
    for what, value, *cells in read_table("scaling.md", "| | | ONNX Runtime | OpenVINO"):
        panel = panels.setdefault(what, {name: [] for name in RUNTIMES})
        for runtime, cell in zip(RUNTIMES, cells, strict=True):
            panel[runtime].append([float(value), numbers(cell)[0]])
    return panels


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw_peers(plt: Any, scheme: Scheme) -> Any:
    panels = peers()
    figure, all_axes = plt.subplots(1, len(panels), figsize=(7.2, 3.0))
    for axes, (size, models) in zip(all_axes, panels.items(), strict=True):
        width = 0.8 / len(models)
        for number, (name, values) in enumerate(models.items()):
            shift = (number - (len(models) - 1) / 2) * width
            places = [group + shift for group in range(len(RUNTIMES))]
            bars = axes.bar(places, values, width * 0.9, color=COLOURS[number * 3], label=name)
            axes.bar_label(bars, fmt="%.0f", fontsize=7, color=scheme.text, padding=1)
        axes.set_xticks(range(len(RUNTIMES)), RUNTIMES, fontsize=8)
        axes.set_title(f"{size} px", fontsize=9)
        axes.grid(False, axis="x")
    all_axes[0].set_ylabel("ms from a 1080p frame to masks")
    all_axes[0].legend(frameon=False, fontsize=8)
    return figure


def draw_changes(plt: Any, scheme: Scheme) -> Any:
    found = changes()
    figure, all_axes = plt.subplots(1, len(found), figsize=(7.2, 2.6), sharey=True, sharex=True)
    for axes, (metric, sets) in zip(all_axes, found.items(), strict=True):
        axes.axvline(0, color=scheme.text, linewidth=0.8)
        for index, (data, by_runtime) in enumerate(sets.items()):
            colour = COLOURS[index * 3]
            for runtime, (change, low, high) in by_runtime.items():
                height = RUNTIMES.index(runtime) + (index - 0.5) * 0.3
                label = data if runtime == RUNTIMES[0] else None
                axes.plot([low, high], [height, height], color=colour, linewidth=1.5)
                axes.plot(change, height, MARKERS[index], color=colour, markersize=5, label=label)
        axes.set_title(f"{metric} AP", fontsize=9)
        axes.set_xlabel("change by INT8 in points")
    all_axes[0].set_yticks(range(len(RUNTIMES)), RUNTIMES)
    all_axes[0].invert_yaxis()
    all_axes[0].legend(ncols=2, loc="upper center", bbox_to_anchor=(1.0, -0.25), frameon=False, fontsize=8)
    return figure


def draw_pruning(plt: Any, scheme: Scheme) -> Any:
    figure, axes = plt.subplots(figsize=(6.0, 3.0))
    for index, (series, points) in enumerate(pruning().items()):
        shift = 0.03 * (index - 1.5)  # side by side, so that intervals do not cover each other
        gmac, mask, low, high = zip(*points, strict=True)
        places = [value + shift for value in gmac]
        axes.plot(places, mask, f"{MARKERS[index]}-", color=COLOURS[index], markersize=5, linewidth=0.8, label=series)
        axes.vlines(places, low, high, color=COLOURS[index], linewidth=1.2)
    axes.set_xlim(0, max(gmac) * 1.1)
    axes.set_xlabel("billions of multiply-accumulates (GMAC)")
    axes.set_ylabel("mask AP in points")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def draw_accuracy(plt: Any, scheme: Scheme) -> Any:
    figure, axes = plt.subplots(figsize=(6.0, 3.0))
    for number, (model, points) in enumerate(accuracy().items()):
        for index, (ms, mask) in enumerate(points):
            label = f"{model}, {RUNTIMES[index]}"
            axes.plot(ms, mask, MARKERS[index], color=COLOURS[number * 3], markersize=6, label=label)
    axes.set_xlim(0)
    axes.set_ylim(0)
    axes.set_xlabel("ms from a 1080p frame to masks")
    axes.set_ylabel("mask AP in points")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def draw_growth(plt: Any, scheme: Scheme) -> Any:
    panels = growth()
    figure, all_axes = plt.subplots(1, len(panels), figsize=(7.2, 2.8), sharey=True)
    titles = {"input, px": "input size in px", "proposals": "proposals", "detections": "objects in the picture"}
    for axes, (what, lines) in zip(all_axes, panels.items(), strict=True):
        for index, (runtime, line) in enumerate(lines.items()):
            style = f"-{MARKERS[index]}"
            axes.plot(*zip(*line, strict=True), style, color=COLOURS[index * 2], markersize=4, label=runtime)
        axes.set_xlabel(titles[what])
        axes.set_ylim(0)
    all_axes[0].set_ylabel("ms of the network")
    all_axes[1].legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=8)
    return figure


class Figure(NamedTuple):
    """What a figure shows, and how it is drawn."""

    read: Callable[[], Any]
    draw: Callable[[Any, Scheme], Any]


FIGURES = {
    "peers": Figure(peers, draw_peers),
    "int8": Figure(changes, draw_changes),
    "pruning": Figure(pruning, draw_pruning),
    "accuracy": Figure(accuracy, draw_accuracy),
    "growth": Figure(growth, draw_growth),
}


def fingerprint(name: str) -> str:
    """Of the numbers that a figure shows; stands in its file, so that a test can tell an old one."""
    shown = json.dumps(FIGURES[name].read(), sort_keys=True)
    return hashlib.sha256(shown.encode()).hexdigest()[:16]


def style(scheme: Scheme) -> dict[str, Any]:
    """Matplotlib's settings for one variant."""
    edges = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(edges, scheme.text),
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "grid.color": scheme.grid,
        "grid.linewidth": 0.5,
        "svg.fonttype": "none",  # write text as text, so that files are small and can be searched
        "svg.hashsalt": "edge-mrcnn",  # the same figures give the same file
    }


def main() -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    for scheme in SCHEMES:
        with plt.rc_context(style(scheme)):
            for name, of_name in FIGURES.items():
                file = IMAGES / f"figure-{name}-{scheme.name}.svg"
                figure = of_name.draw(plt, scheme)
                about = {"Date": None, "Description": fingerprint(name)}
                figure.savefig(file, transparent=True, bbox_inches="tight", metadata=about)
                plt.close(figure)
                print(file)


if __name__ == "__main__":
    main()

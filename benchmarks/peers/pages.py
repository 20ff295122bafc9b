"""The tables and the picture of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Row = dict[str, Any]
RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tflite": "TFLite"}
GOALS = {
    ("openvino", 320): 0.45,
    ("openvino", 640): 0.25,
    ("onnx", 320): 0.9,
    ("onnx", 640): 0.7,
    ("tflite", 320): 0.7,
    ("tflite", 640): 0.7,
}
"""Largest ratio of our INT8 file's time to the rival's."""
FLOOR_GOAL = 1.8
"""Largest ratio of our INT8 file's time to its own backbone's."""
OURS, RIVAL = "nano-dense", "yolo11n-seg"
BACKBONE = "'s backbone"
"""Suffix of a model's name for its backbone alone; only our models have one."""
COLORS = {"network": "#4477aa", "results": "#66ccee", "finished": "#ccbb44"}


def write_tables(rows: list[Row], clock: str) -> str:
    """All times, and the ratios that the goals are about."""
    return "\n".join([*_ratios(rows), "", *_times(rows, clock), ""])


def _ratios(rows: list[Row]) -> list[str]:
    lines = [
        f"| ours / {RIVAL}, INT8 | threads | objects | network | to results | to picture and JSON | goal "
        f"| network / its backbone, goal {FLOOR_GOAL} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        rival, floor = _find(rows, row, RIVAL), _find(rows, row, row["model"] + BACKBONE, objects=0)
        if row["precision"] != "int8" or rival is None or floor is None:
            continue
        shares = " | ".join(f"{row[stage] / rival[stage]:.2f}" for stage in COLORS)
        goal, above = GOALS.get((row["runtime"], row["size"]), ""), f"{row['network'] / floor['network']:.1f}"
        title = f"{row['model']}, {RUNTIMES[row['runtime']]}, {row['size']} px"
        lines.append(f"| {title} | {row['threads']} | {row['objects']} | {shares} | {goal} | {above} |")
    return lines


def _times(rows: list[Row], clock: str) -> list[str]:
    lines = [
        f"| {clock} ms (network / to results / to picture and JSON) | threads | "
        + " | ".join(f"{count} objects" for count in _counts(rows))
        + " |",
        "|---|---:|" + "---:|" * len(_counts(rows)),
    ]
    done = set()
    for row in rows:
        key = tuple(row[name] for name in ("size", "runtime", "precision", "model", "threads"))
        if key in done:
            continue
        done.add(key)
        counts = [0] if row["model"].endswith(BACKBONE) else _counts(rows)
        same = [_find(rows, row, row["model"], count) for count in counts]
        cells = " | ".join([*map(_cell, same), *[""] * (len(_counts(rows)) - len(same))])
        title = f"{row['model']}, {RUNTIMES[row['runtime']]} {row['precision']}, {row['size']} px"
        lines.append(f"| {title} | {row['threads']} | {cells} |")
    return lines


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row["network"] == row["finished"]:
        return f"{row['network']:.1f}"
    return " / ".join(f"{row[stage]:.1f}" for stage in COLORS)


def _counts(rows: list[Row]) -> list[int]:
    return sorted({row["objects"] for row in rows if not row["model"].endswith(BACKBONE)})


def _find(rows: list[Row], like: Row, model: str, objects: int | None = None) -> Row | None:
    """The row with the same settings but this model and number of objects; by default the same number."""
    wanted = {name: like[name] for name in ("runtime", "precision", "size", "threads")}
    wanted |= {"model": model, "objects": like["objects"] if objects is None else objects}
    return next((row for row in rows if all(row[name] == value for name, value in wanted.items())), None)


def draw_chart(rows: list[Row], file: Path, clock: str) -> None:
    """Bars of INT8 files with one thread and the middle number of objects: network, then everything up to the
    results."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    counts = _counts(rows)
    count = counts[len(counts) // 2]
    used = min(row["threads"] for row in rows)
    sizes = sorted({row["size"] for row in rows})
    models = {row["model"] for row in rows if BACKBONE not in row["model"]}
    height = 1.5 + 0.36 * len(models) * len(RUNTIMES)
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(6 * len(sizes), height), squeeze=False, layout="constrained")
    for axis, size in zip(axes[0], sizes, strict=True):
        wanted = {"precision": "int8", "threads": used, "objects": count, "size": size}
        bars = [row for row in rows if all(row[k] == v for k, v in wanted.items()) and BACKBONE not in row["model"]]
        bars.sort(key=lambda row: (list(RUNTIMES).index(row["runtime"]), row["model"]), reverse=True)
        names = [f"{row['model']}\n{RUNTIMES[row['runtime']]}" for row in bars]
        network = [row["network"] for row in bars]
        around = [row["results"] - row["network"] for row in bars]
        axis.barh(names, network, color=COLORS["network"], label="network")
        axis.barh(names, around, left=network, color=COLORS["results"], label="before and after it")
        axis.set_title(f"INT8, {size} px, {used} thread{'s' * (used > 1)}, {count} objects")
        axis.set_xlabel(f"{clock} ms from a decoded 1080p frame to boxes and masks")
        axis.tick_params(axis="y", labelsize=8)
        axis.legend(loc="lower right")
    figure.savefig(file, dpi=110)
    pyplot.close(figure)

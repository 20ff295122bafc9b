"""Numbers and sentences of a report: AP in points, signed changes, sizes, the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_mrcnn.evaluation.drop import Drop, say_unusable
from edge_mrcnn.report.rows import Comparison, DataSet, ReportRow
from edge_mrcnn.tables import NONE, counted

KIND_WORDS = {
    "class": "classification",
    "place": "localisation",
    "mask": "mask quality",
    "both": "class. + loc.",
    "twice": "duplicate",
    "background": "background",
    "missed": "missed",
}
"""Type of error, of `breakdown.KINDS` -> column heading."""


def verdict(comparison: Comparison) -> str:
    """The result in one sentence."""
    if not comparison.candidates:
        return f"{comparison.reference.name} is the only model: nothing to compare."
    if not comparison.has_usable_reference:
        score = comparison.reference.score
        return f"{say_unusable(comparison.reference.name, score.box.ap, score.mask.ap)}."
    worst_row, worst = largest_drop(comparison)
    if math.isnan(worst.value):
        return f"The drop of {worst_row.name} cannot be measured."
    if comparison.max_drop is not None:
        return _gate_verdict(comparison, comparison.max_drop)
    models = counted(len(comparison.candidates), "model")
    if worst.value < 0:
        return f"No drop in {models}: {worst_row.name} gained least, {-100 * worst.value:.2f} AP."
    return f"Largest drop in {models}: {100 * worst.value:.2f} AP ({worst_row.name})."


def _gate_verdict(comparison: Comparison, max_drop: float) -> str:
    limit = f"{100 * max_drop:g} AP"
    count = len(comparison.candidates)
    failing = comparison.too_lossy
    worst_row, worst = largest_drop(comparison)
    if failing and count == 1:
        return f"{worst_row.name} dropped by {100 * worst.value:.2f} AP, more than {limit}."
    if failing:
        names = ", ".join(row.name for row in failing)
        return f"{len(failing)} of {counted(count, 'model')} dropped by more than {limit}: {names}."
    if count == 1:
        return f"{worst_row.name} is within {limit} of {comparison.reference.name}."
    return f"All {counted(count, 'model')} are within {limit} of {comparison.reference.name}."


def describe_data(data: DataSet) -> str:
    """Number of images, objects and classes."""
    classes = f"{len(data.classes)} classes" if len(data.classes) > 1 else f"class {data.classes[0]}"
    return f"{counted(data.images, 'image')}, {counted(data.objects, 'object')}, {classes}"


def timing_note(comparison: Comparison) -> str:
    """The meaning of the columns, and the machine."""
    timing = comparison.timing
    return (
        f"AP: COCO AP50:95 in points. Δ: change against {comparison.reference.name}. ms: median latency from frame to "
        f"detections over {counted(timing['images'], 'image')} and {counted(timing['rounds'], 'round')}, with all "
        f"models interleaved. Speed-up: over {comparison.speed_base.name}. Machine: "
        f"{comparison.device['processor']}, {counted(int(comparison.device['cores']), 'core')}, "
        f"{comparison.device['system']}."
    )


def describe_run(row: ReportRow) -> str:
    """Device, threads and effective precision of a model."""
    text = f"ran on {row.device}"
    if row.runs_as:
        how = ", ".join(f"{key} {value}" for key, value in row.runs_as.items())
        text += f" ({how})"
    if row.recorded:
        text += f"; recorded {row.recorded}"
    return text


def points(ap: float | None, digits: int = 1) -> str:
    """AP in [0, 1] as points."""
    if ap is None or math.isnan(ap):
        return NONE
    return f"{100 * ap:.{digits}f}"


def delta(drop: Drop | None) -> str:
    """A drop as a change; see `signed_loss`."""
    return NONE if drop is None else signed_loss(drop.value)


def interval(drop: Drop | None) -> str:
    """Confidence interval of the change in points, lower end first; empty if there is none or it is a single value."""
    if drop is None or any(math.isnan(end) for end in drop.interval):
        return ""
    low, high = drop.interval
    if low == high:
        return ""
    return f"{signed_loss(high)} … {signed_loss(low)}"


def say_precision(comparison: Comparison, label: str) -> str:
    """How small a change these images can show, and how many would show half a point; "" without an interval."""
    data = next(data for data in comparison.data_sets if data.label == label)
    widest = _widest_interval(comparison, label)
    if widest is None:
        return ""
    name, metric, drop = widest
    needed = drop.images_to_see(data.images) or 0
    known = f"The widest 95 % interval of a change is ±{100 * drop.half_width:.2f} AP ({name}, {metric})"
    if needed <= data.images:
        return f"{known}: these {data.images} images show a change of half a point."
    return (
        f"{known}. To show a change of half a point takes about {needed} images like these "
        f"{data.images}: {needed - data.images} more."
    )


def _widest_interval(comparison: Comparison, label: str) -> tuple[str, str, Drop] | None:
    """Name of the model, "box" or "mask", and the drop; None where no interval could be drawn."""
    found = []
    for row in comparison.candidates:
        score = row.scores[label]
        for metric, drop in (("box", score.box_drop), ("mask", score.mask_drop)):
            if drop is not None and not math.isnan(drop.half_width):
                found.append((row.name, metric, drop))
    return max(found, key=lambda entry: entry[2].half_width, default=None)


def interval_lines(comparison: Comparison) -> list[str]:
    """A line for each candidate: between which changes 95 % of the resampled sets of images lie."""
    lines = []
    for row in comparison.candidates:
        box, mask = interval(row.score.box_drop), interval(row.score.mask_drop)
        if box or mask:
            lines.append(f"{row.name}: 95 % of Δ box {box or NONE}, of Δ mask {mask or NONE}")
    return lines


def megabytes(size_bytes: int) -> str:
    """Millions of bytes."""
    digits = 2 if size_bytes < 1e7 else 1
    return f"{size_bytes / 1e6:.{digits}f}"


def times(factor: float | None) -> str:
    """A speed-up."""
    return NONE if factor is None else f"{factor:.2f}×"


def share(value: float) -> str:
    """A share as a percentage."""
    return NONE if math.isnan(value) else f"{100 * value:.1f} %"


def largest_drop(comparison: Comparison) -> tuple[ReportRow, Drop]:
    """The largest drop in box or mask AP of any candidate on the first data set; nan counts as the largest."""
    drops = []
    for row in comparison.candidates:
        for drop in (row.score.box_drop, row.score.mask_drop):
            if drop is not None:
                drops.append((row, drop))

    def lost(found: tuple[ReportRow, Drop]) -> float:
        _, drop = found
        return math.inf if math.isnan(drop.value) else drop.value

    return max(drops, key=lost)


def signed_loss(lost: float) -> str:
    """Change in points with its sign: a loss of 0.004 is −0.40."""
    if math.isnan(lost):
        return NONE
    rounded = round(-100 * lost, 2)
    return _with_sign(f"{rounded:+.2f}") if rounded else "0.00"


def signed_count(count: int) -> str:
    """A difference of counts with its sign."""
    return _with_sign(f"{count:+d}") if count else "0"


def signed_points(change: float) -> str:
    """A change in [-1, 1] as points with its sign: 0.0123 is +1.2."""
    if math.isnan(change):
        return NONE
    rounded = round(100 * change, 1)
    return _with_sign(f"{rounded:+.1f}") if rounded else "0.0"


def _with_sign(number: str) -> str:
    """Replace the hyphen by a minus sign."""
    return number.replace("-", "−")


def giga(count: int | None) -> str:
    """Thousands of millions."""
    return f"{count / 1e9:.2f}" if count else NONE


def millions(count: float) -> str:
    """Millions, of parameters or bytes."""
    if not count:
        return NONE
    digits = 2 if count < 1e8 else 0
    return f"{count / 1e6:.{digits}f}"


def span(values: Sequence[float], digits: int = 1) -> str:
    """One number, or the range from the smallest to the largest if they differ as printed."""
    low = f"{min(values):.{digits}f}"
    high = f"{max(values):.{digits}f}"
    return low if low == high else f"{low}–{high}"

"""The result of a search as text for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from operator import itemgetter

import click

from edge_mrcnn.benchmark.rows import TOTAL
from edge_mrcnn.benchmark.tables import warnings
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.report.wording import interval, points, signed_loss
from edge_mrcnn.tables import NONE, WIDTH, Table
from edge_mrcnn.tune.search import Attempt, Tuning


def to_text(tuning: Tuning) -> str:
    """The table, fastest first and the chosen row in green, and notes."""
    header, *body = tuning_table(tuning).text()
    lines = [click.style(str(tuning.benchmark.board), bold=True), "", click.style(header, bold=True)]
    for line, attempt in zip(body, tuning.attempts, strict=True):
        lines.append(click.style(line, fg=_colour(tuning, attempt)))
    for note in notes(tuning):
        lines += ["", textwrap.fill(note, WIDTH)]
    lines += ["", verdict(tuning)]
    return "\n".join(lines)


def tuning_table(tuning: Tuning) -> Table:
    """One line per setting of a model."""
    header = ("model", "precision", "threads", "p50 ms", "FPS", "box", "Δ box", "mask", "Δ mask", "95 %", "")
    rows = tuple(_cells(tuning, attempt) for attempt in tuning.attempts)
    return Table(header, rows, text_columns=2)


def verdict(tuning: Tuning) -> str:
    """The choice, or how far the best candidate is from the limit."""
    limit = f"{100 * tuning.max_drop:g} AP"
    if tuning.chosen is None:
        return f"No candidate is within {limit} of {tuning.reference}: the smallest drop is {_least_loss(tuning)}."
    row = tuning.chosen.row
    return f"Chosen: {row.name}, {row.precision}, {row.place}: {row.fps:.1f} FPS, within {limit} of {tuning.reference}."


def _least_loss(tuning: Tuning) -> str:
    losses = []
    for attempt in tuning.attempts:
        if attempt.accuracy:
            losses.append((attempt.accuracy.worst.value, attempt.row.name))
    lost, name = min(losses, key=itemgetter(0))
    return f"{100 * lost:.2f} AP ({name})"


def notes(tuning: Tuning) -> list[str]:
    """Notes on how to read the result."""
    found = warnings(tuning.benchmark)
    failures = {failure.name: failure.reason for failure in tuning.benchmark.failures}
    for name, reason in failures.items():
        found.append(f"Not tried: {name}: {reason}")
    if _is_unsure(tuning):
        found.append(
            f"{tuning.images} images cannot tell whether it loses less than {100 * tuning.max_drop:g} AP for sure: the "
            "95 % interval reaches beyond; more images narrow it."
        )
    box_ap, mask_ap = tuning.reference_ap
    found.append(
        f"AP in points on {tuning.images} images of {tuning.data}; Δ against {tuning.reference} "
        f"(box {100 * box_ap:.1f}, mask {100 * mask_ap:.1f}); 95 % is the interval of the worse one. "
        f"ms from the frame to detections, all in turn. {NONE}: not evaluated, since a faster one is accurate enough."
    )
    return found


def _is_unsure(tuning: Tuning) -> bool:
    """Whether the chosen one could drop by more than allowed on other images."""
    if tuning.chosen is None or tuning.chosen.accuracy is None:
        return False
    _, most = tuning.chosen.accuracy.worst.interval
    return most > tuning.max_drop


def _cells(tuning: Tuning, attempt: Attempt) -> tuple[str, ...]:
    row, accuracy = attempt.row, attempt.accuracy
    place = str(row.threads or row.place)
    speed = (row.name, row.precision, place, f"{row.latency[TOTAL].p50:.1f}", f"{row.fps:.1f}")
    if accuracy is None:
        return (*speed, NONE, NONE, NONE, NONE, "", "")
    return (
        *speed,
        points(accuracy.box_ap),
        signed_loss(accuracy.box_drop.value),
        points(accuracy.mask_ap),
        signed_loss(accuracy.mask_drop.value),
        _interval(accuracy.worst),
        _remark(tuning, attempt),
    )


def _remark(tuning: Tuning, attempt: Attempt) -> str:
    if attempt is tuning.chosen:
        return "← chosen"
    return "too lossy" if _is_too_lossy(tuning, attempt) else ""


def _is_too_lossy(tuning: Tuning, attempt: Attempt) -> bool:
    return attempt.accuracy is not None and attempt.accuracy.exceeds(tuning.max_drop)


def _interval(drop: Drop) -> str:
    return interval(drop).replace(" … ", "…")


def _colour(tuning: Tuning, attempt: Attempt) -> str | None:
    if attempt is tuning.chosen:
        return "green"
    return "red" if _is_too_lossy(tuning, attempt) else None

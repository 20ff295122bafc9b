"""A tuning for a terminal of 100 columns."""

from __future__ import annotations

import textwrap

import click

from edge_mrcnn.benchmark.rows import TOTAL
from edge_mrcnn.benchmark.tables import warnings
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.report.wording import interval, points, signed_loss
from edge_mrcnn.tables import NONE, WIDTH, Table
from edge_mrcnn.tune.search import Attempt, Tuning


def to_text(tuning: Tuning) -> str:
    """The table, the fastest first and the chosen one in green, and what to know about it."""
    header, *body = tuning_table(tuning).text()
    colours = [_colour(tuning, attempt) for attempt in tuning.attempts]
    lines = [click.style(str(tuning.benchmark.board), bold=True), "", click.style(header, bold=True)]
    lines += [click.style(line, fg=colour) for line, colour in zip(body, colours, strict=True)]
    for note in notes(tuning):
        lines += ["", textwrap.fill(note, WIDTH)]
    return "\n".join([*lines, "", verdict(tuning)])


def tuning_table(tuning: Tuning) -> Table:
    """One line per way to run a model."""
    header = ("model", "precision", "threads", "p50 ms", "FPS", "box", "Δ box", "mask", "Δ mask", "95 %", "")
    return Table(header, tuple(_cells(tuning, attempt) for attempt in tuning.attempts), text_columns=2)


def verdict(tuning: Tuning) -> str:
    """What was chosen, or how far the best is from the limit."""
    limit = f"{100 * tuning.max_drop:g} AP"
    chosen = tuning.chosen
    if chosen is None:
        tried = [(a, a.accuracy.worst) for a in tuning.attempts if a.accuracy]
        attempt, least = min(tried, key=lambda pair: pair[1].value)
        lost = f"{100 * least.value:.2f} AP ({attempt.row.name})"
        return f"None is within {limit} of {tuning.reference}: the least loss is {lost}."
    row = chosen.row
    return f"Chosen: {row.name}, {row.precision}, {row.place}: {row.fps:.1f} FPS, within {limit} of {tuning.reference}."


def notes(tuning: Tuning) -> list[str]:
    """What a reader must know to trust the choice."""
    found = warnings(tuning.benchmark)
    failures = {failure.name: failure.reason for failure in tuning.benchmark.failures}
    found += [f"Not tried: {name}: {reason}" for name, reason in failures.items()]
    chosen = tuning.chosen
    if chosen and chosen.accuracy and chosen.accuracy.worst.interval[1] > tuning.max_drop:
        found.append(
            f"{tuning.images} images cannot tell whether it loses less than {100 * tuning.max_drop:g} AP for sure: the "
            "95 % interval reaches beyond; more images narrow it."
        )
    box, mask = (f"{100 * ap:.1f}" for ap in tuning.reference_ap)
    found.append(
        f"AP in points on {tuning.images} images of {tuning.data}; Δ against {tuning.reference} (box {box}, mask "
        f"{mask}); 95 % is the interval of the worse one. ms from the frame to detections, all in turn. "
        f"{NONE}: not evaluated, since a faster one is accurate enough."
    )
    return found


def _cells(tuning: Tuning, attempt: Attempt) -> tuple[str, ...]:
    row, accuracy = attempt.row, attempt.accuracy
    speed = (row.name, row.precision, str(row.threads or row.place), f"{row.latency[TOTAL].p50:.1f}", f"{row.fps:.1f}")
    if accuracy is None:
        return (*speed, NONE, NONE, NONE, NONE, "", "")
    return (
        *speed,
        points(accuracy.box_ap),
        signed_loss(accuracy.box_drop.value),
        points(accuracy.mask_ap),
        signed_loss(accuracy.mask_drop.value),
        _interval(accuracy.worst),
        "← chosen" if attempt is tuning.chosen else "too lossy" if accuracy.exceeds(tuning.max_drop) else "",
    )


def _interval(drop: Drop) -> str:
    return interval(drop).replace(" … ", "…")


def _colour(tuning: Tuning, attempt: Attempt) -> str | None:
    if attempt is tuning.chosen:
        return "green"
    return "red" if attempt.accuracy and attempt.accuracy.exceeds(tuning.max_drop) else None

"""The charts of a report."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from edge_mrcnn.evaluation.breakdown import KINDS, ErrorCost
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.evaluation.pairing import Pairing
from edge_mrcnn.report.drawing import (
    WIDTH,
    Box,
    Point,
    Scale,
    drawing,
    level_line,
    number,
    plain,
    point_labels,
    shorten,
    tag,
    text,
    upright_line,
)
from edge_mrcnn.report.rows import Comparison, ReportRow
from edge_mrcnn.report.wording import KIND_WORDS, signed_count, signed_loss

VISIBLE = 5e-4
"""An error type that costs every model less AP than this is left out of the chart."""
STAGES = ("preprocess", "inference", "postprocess")


@dataclass(frozen=True)
class Price:
    """A cost on the horizontal axis of an accuracy chart."""

    label: str
    of: Callable[[ReportRow], float | None]
    """The cost of a model; None if it is unknown."""
    needs_timing: bool = False
    """Whether only models that were timed together can be compared."""


LATENCY = Price("ms per frame, median", lambda row: row.latency_ms, needs_timing=True)
SIZE = Price("megabytes of file", lambda row: row.size_bytes / 1e6)
MACS = Price("GMAC of one image", lambda row: row.macs / 1e9 if row.macs else None)


def trade_chart(comparison: Comparison, price: Price) -> str:
    """Mask AP over a cost. Up and left is better; the line is the Pareto front.

    Models that were not timed with the others, or whose cost is unknown, are shown as a level instead of a point.
    """
    rows, prices = _priced_rows(comparison, price)
    aps = [100 * row.score.mask.ap for row in comparison.rows]
    height, left, right, top, bottom = 290, 34, WIDTH - 12, 18, 246
    x = Scale(0.0, 1.18 * max(prices), left, right)
    y = _ap_scale(aps, bottom, top)
    parts = []
    for tick in y.ticks():
        parts.append(_grid_line(left, right, y(tick), number(tick)))
    for tick in x.ticks():
        parts.append(text(number(tick), x(tick), bottom + 16, cls="tick", text_anchor="middle"))
    parts.append(text(price.label, right, bottom + 34, cls="axis", text_anchor="end"))
    parts.append(text("mask AP", left, top - 6, cls="axis"))

    level = y(aps[0])
    parts.append(level_line(level, left, right, "reference"))
    worths = [row.score.mask.ap for row in rows]
    points = [(x(cost), y(100 * worth)) for cost, worth in zip(prices, worths, strict=True)]
    front = pareto_front(list(zip(prices, worths, strict=True)))
    best = [points[index] for index in front]
    parts.append(tag("path", d=_steps(best, right), cls="front"))
    for row, point in zip(rows, points, strict=True):
        parts.append(_marker(row, *point))

    names = [row.name for row in rows]
    lines = [(left, level - 1, right, level + 1), *_step_boxes(best, right)]
    parts += point_labels(names, points, (left, 0, WIDTH, bottom), lines)
    return drawing(parts, height, f"Mask AP over {price.label} of each model")


def _priced_rows(comparison: Comparison, price: Price) -> tuple[list[ReportRow], list[float]]:
    """The models that can be compared in a cost, and the cost of each."""
    rows, prices = [], []
    for row in comparison.rows:
        if price.needs_timing and comparison.speed_up(row) is None:
            continue
        cost = price.of(row)
        if cost is not None:
            rows.append(row)
            prices.append(cost)
    return rows, prices


def _ap_scale(aps: Sequence[float], bottom: float, top: float) -> Scale:
    """Vertical axis of AP in points, with a margin, at least two points high."""
    lowest, highest = min(aps), max(aps)
    spread = max(highest - lowest, 2.0)
    return Scale(max(0.0, lowest - 0.35 * spread), highest + 0.25 * spread, bottom, top)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Pareto front: indices of the (cost, worth) that no other beats, in ascending order of cost."""

    def cheap_and_worthy_first(index: int) -> tuple[float, float]:
        price, worth = points[index]
        return price, -worth

    front: list[int] = []
    for index in sorted(range(len(points)), key=cheap_and_worthy_first):
        _, worth = points[index]
        if not front or worth > points[front[-1]][1]:
            front.append(index)
    return front


def change_chart(comparison: Comparison) -> str:
    """Change in box and mask AP of each candidate, with its interval and the limit; losses point left."""
    limit = limit_of(comparison)
    drops = []
    for row in comparison.candidates:
        for drop in (row.score.box_drop, row.score.mask_drop):
            if drop is not None:
                drops.append(drop)
    low, high = _change_range(drops, limit)
    left, right, top, step = 34, WIDTH - 46, 22, 54
    bottom = top + step * len(comparison.candidates)
    x = Scale(low, high, left, right)
    parts = _uprights(x, x.ticks(), top, bottom)
    parts.append(upright_line(x(-100 * limit), top - 4, bottom, "limit"))
    word = "one point" if comparison.max_drop is None else "limit"
    parts.append(text(word, x(-100 * limit), top - 8, cls="limit-label", text_anchor="middle"))
    for index, row in enumerate(comparison.candidates):
        y = top + step * index
        parts.append(text(shorten(row.name, 44), left, y + 13, cls="label"))
        parts += _change_bar("box", row.score.box_drop, x, y + 18, limit)
        parts += _change_bar("mask", row.score.mask_drop, x, y + 33, limit)
    legend = "AP points; whiskers: 95 % confidence interval"
    parts.append(text(legend, right, bottom + 34, cls="axis", text_anchor="end"))
    return drawing(parts, bottom + 42, "Change in AP of each model against the reference")


def stage_chart(comparison: Comparison) -> str:
    """Median latency of each stage."""
    rows = [row for row in comparison.rows if comparison.speed_up(row) is not None]
    left, right, step = 2, WIDTH - 60, 40
    slowest = max(row.latency_ms for row in rows)
    x = Scale(0.0, slowest, left, right)
    parts = []
    for index, row in enumerate(rows):
        y = step * index
        parts.append(text(shorten(row.name, 48), left, y + 13, cls="label"))
        start = 0.0
        for stage in STAGES:
            end = start + (row.latency[stage].p50 if stage in row.latency else 0.0)
            width = max(x(end) - x(start), 0.0)
            parts.append(tag("rect", x=x(start), y=y + 19, width=width, height=12, cls=f"stage-{stage}"))
            start = end
        parts.append(text(f"{row.latency_ms:.1f} ms", x(row.latency_ms) + 6, y + 29, cls="value"))
    return drawing(parts, step * len(rows) + 4, "Median time of each stage")


def mistake_chart(comparison: Comparison) -> str:
    """Change in the mask AP that each error type costs each candidate, against the reference; losses point left."""
    rows = changed_rows(comparison)
    first = comparison.reference.score.mask_costs
    gains = _mistake_gains(first, rows)
    largest = 0.1
    for changes in gains.values():
        largest = max(largest, *(abs(change) for change in changes))
    left, right, top = 106, WIDTH - 44, 20
    step = 20 + 9 * min(len(rows), 8)
    bottom = top + step * len(gains)
    x = Scale(-1.15 * largest, 1.15 * largest, left, right)
    parts = _uprights(x, x.ticks(4), top, bottom)
    parts.append(text("costs", WIDTH - 2, top - 8, cls="tick", text_anchor="end"))
    for line, (kind, changes) in enumerate(gains.items()):
        y = top + step * line
        middle = y + step / 2 + 4
        parts.append(text(KIND_WORDS[kind], left - 8, middle, cls="label", text_anchor="end"))
        parts.append(text(f"{100 * first[kind].ap:.1f}", WIDTH - 2, middle, cls="tick", text_anchor="end"))
        for lane, (row, gain) in enumerate(zip(rows, changes, strict=True)):
            level = y + 5 + (step - 10) * (lane + 0.5) / len(rows)
            parts.append(level_line(level, x(0.0), x(gain), "leader"))
            parts.append(_marker(row, x(gain), level, radius=4.5))
    parts.append(text("AP points against the reference", right, bottom + 34, cls="axis", text_anchor="end"))
    return drawing(parts, bottom + 42, "Change in the mask AP lost to each error type")


def _mistake_gains(first: Mapping[str, ErrorCost], rows: Sequence[ReportRow]) -> dict[str, list[float]]:
    """Error type -> AP points that each model gains over the reference; without types that cost no model anything."""
    gains = {}
    for kind in KINDS:
        costs = [row.score.mask_costs[kind].ap for row in rows]
        if max(first[kind].ap, *costs) >= VISIBLE:
            gains[kind] = [100 * (first[kind].ap - cost) for cost in costs]
    return gains


def pair_chart(comparison: Comparison) -> str:
    """Objects that each candidate lost and gained against the reference."""
    pairs = [(row, row.score.pairing) for row in changed_rows(comparison) if row.score.pairing]
    most = 1
    for _, pairing in pairs:
        most = max(most, pairing.total.lost, pairing.total.gained, abs(pairing.total.extra))
    left, right, step = 30, WIDTH - 30, 56
    x = Scale(-1.0 * most, 1.0 * most, left, right)
    parts = [upright_line(x(0), 0, step * len(pairs), "zero")]
    for index, (row, pairing) in enumerate(pairs):
        parts.append(text(shorten(row.name, 44), 2, step * index + 13, cls="label"))
        parts += _pair_bars(pairing, x, step * index + 20)
    return drawing(parts, step * len(pairs) + 2, "Objects lost and gained by each model")


def limit_of(comparison: Comparison) -> float:
    """The drop at which colours turn red, in [0, 1]: the allowed drop, or one point."""
    return 0.01 if comparison.max_drop is None else comparison.max_drop


def level_of(lost: float, limit: float) -> str:
    """CSS class of a loss in [-1, 1]: good up to half the limit, fair up to the limit, else bad."""
    if lost <= limit / 2:
        return "good"
    if lost <= limit + 1e-9:
        return "fair"
    return "bad"


def _change_range(drops: Sequence[Drop], limit: float) -> tuple[float, float]:
    """Points at both ends of the axis: room for every bar, and for whiskers up to a maximum length."""
    changes = [-drop.value for drop in drops if not math.isnan(drop.value)]
    changes = changes or [0.0]
    largest = max(abs(change) for change in changes)
    reach = max(2.5 * limit, 1.6 * largest)
    ends = []
    for drop in drops:
        for end in drop.interval:
            if not math.isnan(end):
                ends.append(min(max(-end, -reach), reach))
    low = min(-1.25 * limit, *changes, *ends)
    high = max(0.25 * limit, *changes, *ends)
    return 100 * low, 100 * high


def _change_bar(what: str, drop: Drop | None, x: Scale, y: float, limit: float) -> list[str]:
    name = text(what, x.start - 5, y + 9, cls="tick", text_anchor="end")
    if drop is None or math.isnan(drop.value):
        return [name, text("not measurable", x(0) + 5, y + 9, cls="tick")]
    start, end = sorted((x(0.0), x(-100 * drop.value)))
    style = f"bar {level_of(drop.value, limit)}"
    bar = tag("rect", x=start, y=y, width=max(end - start, 1.5), height=11, rx=2, cls=style)
    value = text(signed_loss(drop.value), WIDTH - 2, y + 9, cls="value", text_anchor="end")
    if any(math.isnan(end) for end in drop.interval):
        return [name, bar, value]
    low, high = drop.interval
    whisker = level_line(y + 5.5, x(-100 * low), x(-100 * high), "whisker")
    return [name, bar, whisker, value]


def _uprights(x: Scale, ticks: Sequence[float], top: float, bottom: float) -> list[str]:
    """A line and its number for each tick."""
    parts = []
    for tick in ticks:
        style = "zero" if abs(tick) < 1e-9 else "grid"
        line = upright_line(x(tick), top, bottom, style)
        label = text(number(tick), x(tick), bottom + 16, cls="tick", text_anchor="middle")
        parts.append(line + label)
    return parts


def _grid_line(left: float, right: float, y: float, label: str) -> str:
    line = level_line(y, left, right, "grid")
    return line + text(label, left - 6, y + 4, cls="tick", text_anchor="end")


def _marker(row: ReportRow, x: float, y: float, radius: float = 6) -> str:
    """A circle for float models, a diamond for INT8 ones, in the target's colour; pruned ones have a rim."""
    style = f"dot target-{html.escape(row.target)}"
    if row.is_pruned:
        style += " pruned"
    if row.precision != "int8":
        return tag("circle", cx=x, cy=y, r=radius, cls=style)
    side = 1.7 * radius
    turn = f"rotate(45 {plain(x)} {plain(y)})"
    return tag("rect", x=x - side / 2, y=y - side / 2, width=side, height=side, transform=turn, cls=style)


def _steps(points: Sequence[Point], right: float) -> str:
    """A step line that rises at each point and continues to the right edge."""
    (first_x, first_y), *others = points
    moves = [f"M {plain(first_x)} {plain(first_y)}"]
    for x, y in others:
        moves.append(f"H {plain(x)} V {plain(y)}")
    moves.append(f"H {plain(right)}")
    return " ".join(moves)


def _step_boxes(points: Sequence[Point], right: float) -> list[Box]:
    """The lines of `_steps` as boxes, for the placement of labels."""
    level, rises = [], []
    for (x, y), (next_x, next_y) in pairwise([*points, (right, points[-1][1])]):
        level.append((x, y - 1, next_x, y + 1))
        rises.append((next_x - 1, next_y, next_x + 1, y))
    return level + rises[:-1]  # the last line ends at the right edge


def changed_rows(comparison: Comparison) -> tuple[ReportRow, ...]:
    """The candidates whose detections differ from the reference's; all if none differ."""
    changed = tuple(row for row in comparison.candidates if not _is_same(row))
    return changed or comparison.candidates


def _is_same(row: ReportRow) -> bool:
    """Whether a model has the same detections with the same accuracy, as precisely as a report prints it."""
    for drop in (row.score.box_drop, row.score.mask_drop):
        if drop is not None and not abs(drop.value) < 5e-5:
            return False
    if row.score.pairing is None:
        return True
    total = row.score.pairing.total
    return not (total.lost or total.gained or total.extra)


def _pair_bars(pairing: Pairing, x: Scale, y: float) -> list[str]:
    """Lost objects to the left, gained ones to the right; below them the difference in false positives."""
    total = pairing.total
    zero = x(0.0)
    more, fewer = max(total.extra, 0), min(total.extra, 0)
    return [
        _count_bar(x(-total.lost), zero, y, "bad", signed_count(-total.lost), is_left=True),
        _count_bar(zero, x(total.gained), y, "good", signed_count(total.gained), is_left=False),
        _count_bar(x(fewer), x(more), y + 14, "extra", signed_count(total.extra), is_left=bool(fewer)),
    ]


def _count_bar(start: float, end: float, y: float, style: str, label: str, *, is_left: bool) -> str:
    bar = tag("rect", x=start, y=y, width=max(end - start, 0.0), height=11, rx=2, cls=f"bar {style}")
    if is_left:
        return bar + text(label, start - 5, y + 9.5, cls="value", text_anchor="end")
    return bar + text(label, end + 5, y + 9.5, cls="value", text_anchor="start")

"""Histograms of a data set as inline SVG, with a colour for each split."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from edge_mrcnn.data_check.survey import SplitSummary
from edge_mrcnn.report.drawing import WIDTH, Scale, drawing, level_line, tag, text

SIZE_EDGES = (0, 8, 16, 32, 64, 128, 256, math.inf)
"""Sides of objects at the input size, in pixels."""
COUNT_EDGES = (0, 1, 2, 3, 5, 9, 17, 33, math.inf)
"""Numbers of objects per image."""
MOST_CLASSES = 30
BAR_HEIGHT = 10


def class_chart(summaries: Sequence[SplitSummary]) -> str:
    """Objects of each class on a logarithmic axis, the most frequent of the first split first."""
    names = _class_names(summaries)[:MOST_CLASSES]
    longest = max(map(len, names), default=0)
    left = 14 + min(150, 6 * longest)
    x = Scale(0.0, math.log10(1 + _most_objects(summaries)), left, WIDTH - 44)
    height = BAR_HEIGHT * len(summaries)
    step = height + 10
    parts = []
    for row, name in enumerate(names):
        y = step * row
        shown = name if len(name) < 26 else name[:24] + "…"
        parts.append(text(shown, left - 6, y + height / 2 + 4, cls="tick", text_anchor="end"))
        for number, summary in enumerate(summaries):
            count = summary.classes.get(name, 0)
            width = x(math.log10(1 + count)) - left
            parts += _bar(left, y + BAR_HEIGHT * number, width, count, number)
    return drawing(parts, step * len(names), "Objects of each class")


def _class_names(summaries: Sequence[SplitSummary]) -> list[str]:
    """Each class once, in the order of the first split that has it."""
    names: dict[str, None] = {}
    for summary in summaries:
        names.update(dict.fromkeys(summary.classes))
    return list(names)


def _most_objects(summaries: Sequence[SplitSummary]) -> int:
    """Number of objects of one class in one split, at least 1."""
    most = 1
    for summary in summaries:
        most = max([most, *summary.classes.values()])
    return most


def size_chart(summaries: Sequence[SplitSummary]) -> str:
    """Share of objects in each range of sides."""
    labels = [_range_label(low, high) for low, high in pairwise(SIZE_EDGES)]
    shares = []
    for summary in summaries:
        sides = [(side, 1) for side in summary.sides_px]
        shares.append(_shares(SIZE_EDGES, sides))
    return _columns(labels, shares, "Side of an object in pixels at the input size", "% of objects")


def crowding_chart(summaries: Sequence[SplitSummary]) -> str:
    """Share of images with each number of objects."""
    labels = [_count_label(low, high) for low, high in pairwise(COUNT_EDGES)]
    shares = []
    for summary in summaries:
        counts = list(summary.per_image.items())
        shares.append(_shares(COUNT_EDGES, counts))
    return _columns(labels, shares, "Objects in an image", "% of images")


def _bar(x: float, y: float, width: float, count: int, number: int) -> list[str]:
    width = max(width, 1)
    bar = tag("rect", x=x, y=y + 1, width=width, height=BAR_HEIGHT - 1, rx=1.5, cls=f"split-{number}")
    label = text(f"{count:,}", x + width + 5, y + BAR_HEIGHT - 1, cls="tick")
    return [bar, label]


def _shares(edges: Sequence[float], values: Sequence[tuple[float, int]]) -> list[float]:
    """Percent of the weight of `values` in each range [low, high); the first and the last include everything beyond."""
    inner = edges[1:-1]
    bins = [0] * (len(edges) - 1)
    for value, weight in values:
        bins[bisect_right(inner, value)] += weight
    total = max(1, sum(bins))
    return [100 * count / total for count in bins]


def _columns(labels: Sequence[str], shares: Sequence[Sequence[float]], title: str, unit: str) -> str:
    """Grouped columns: for each label one column per row of `shares`, in percent."""
    left, right, top, bottom = 34, WIDTH - 4, 20, 170
    highest = 0.0
    for row in shares:
        highest = max(highest, *row)
    y = Scale(0.0, max(highest * 1.1, 1.0), bottom, top)
    parts = []
    for tick in y.ticks(4):
        level = y(tick)
        parts.append(level_line(level, left, right, "grid"))
        parts.append(text(f"{tick:g}", left - 6, level + 4, cls="tick", text_anchor="end"))
    parts.append(text(unit, left, top - 8, cls="axis"))

    step = (right - left) / len(labels)
    width = min(22.0, 0.8 * step / len(shares))
    for column, label in enumerate(labels):
        middle = left + (column + 0.5) * step
        parts.append(text(label, middle, bottom + 16, cls="tick", text_anchor="middle"))
        for number, row in enumerate(shares):
            start = middle + (number - len(shares) / 2) * width
            height = bottom - y(row[column])
            bar = tag("rect", x=start + 0.5, y=bottom - height, width=width - 1, height=height, cls=f"split-{number}")
            parts.append(bar)
    return drawing(parts, bottom + 24, title)


def _range_label(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:g}+"
    if low == 0:
        return f"<{high:g}"
    return f"{low:g}–{high:g}"


def _count_label(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:g}+"
    if high == low + 1:
        return f"{low:g}"
    return f"{low:g}–{high - 1:g}"

"""Histograms of a data set as inline SVG, every split in its colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edge_mrcnn.data_check.survey import SplitSummary
from edge_mrcnn.report.drawing import WIDTH, Scale, drawing, tag, text

SIZE_EDGES = (0, 8, 16, 32, 64, 128, 256, math.inf)
"""Sides of objects at the input size, in pixels."""
COUNT_EDGES = (0, 1, 2, 3, 5, 9, 17, 33, math.inf)
"""Objects in an image."""
MOST_CLASSES = 30
BAR_HEIGHT = 10


def class_chart(summaries: Sequence[SplitSummary]) -> str:
    """Objects of each class, the most frequent of the first split first, on a logarithmic axis."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary.classes))[:MOST_CLASSES]
    most = max((count for s in summaries for count in s.classes.values()), default=0)
    left = 14 + min(150, max((6 * len(name) for name in names), default=0))
    x = Scale(0.0, math.log10(1 + max(most, 1)), left, WIDTH - 44)
    step = BAR_HEIGHT * len(summaries) + 10
    parts = []
    for row, name in enumerate(names):
        y = step * row
        middle = y + BAR_HEIGHT * len(summaries) / 2 + 4
        parts.append(text(name if len(name) < 26 else name[:24] + "…", left - 6, middle, cls="tick", text_anchor="end"))
        for number, summary in enumerate(summaries):
            count = summary.classes.get(name, 0)
            parts += _bar(left, y + BAR_HEIGHT * number, x(math.log10(1 + count)) - left, count, number)
    return drawing(parts, step * len(names), "Objects of each class")


def size_chart(summaries: Sequence[SplitSummary]) -> str:
    """Share of objects in each range of sides."""
    labels = [_range_label(low, high) for low, high in zip(SIZE_EDGES, SIZE_EDGES[1:], strict=False)]
    shares = [_shares(SIZE_EDGES, [(side, 1) for side in summary.sides_px]) for summary in summaries]
    return _columns(labels, shares, "Side of an object in pixels at the input size", "% of objects")


def crowding_chart(summaries: Sequence[SplitSummary]) -> str:
    """Share of images with so many objects."""
    labels = [_count_label(low, high) for low, high in zip(COUNT_EDGES, COUNT_EDGES[1:], strict=False)]
    shares = [_shares(COUNT_EDGES, list(summary.per_image.items())) for summary in summaries]
    return _columns(labels, shares, "Objects in an image", "% of images")


def _bar(x: float, y: float, width: float, count: int, number: int) -> list[str]:
    bar = tag("rect", x=x, y=y + 1, width=max(width, 1), height=BAR_HEIGHT - 1, rx=1.5, cls=f"split-{number}")
    return [bar, text(f"{count:,}", x + max(width, 1) + 5, y + BAR_HEIGHT - 1, cls="tick")]


def _shares(edges: Sequence[float], values: Sequence[tuple[float, int]]) -> list[float]:
    """Percent of the weight of `values` in each range [low, high)."""
    bins = [0] * (len(edges) - 1)
    for value, weight in values:
        bins[sum(value >= edge for edge in edges[1:-1])] += weight
    total = max(1, sum(bins))
    return [100 * count / total for count in bins]


def _columns(labels: Sequence[str], shares: Sequence[Sequence[float]], title: str, unit: str) -> str:
    left, right, top, bottom = 34, WIDTH - 4, 20, 170
    highest = max((value for row in shares for value in row), default=0.0)
    y = Scale(0.0, max(highest * 1.1, 1.0), bottom, top)
    parts = [
        tag("line", x1=left, x2=right, y1=y(tick), y2=y(tick), cls="grid")
        + text(f"{tick:g}", left - 6, y(tick) + 4, cls="tick", text_anchor="end")
        for tick in y.ticks(4)
    ]
    parts.append(text(unit, left, top - 8, cls="axis"))
    step = (right - left) / len(labels)
    width = min(22.0, 0.8 * step / len(shares))
    for column, label in enumerate(labels):
        middle = left + (column + 0.5) * step
        parts.append(text(label, middle, bottom + 16, cls="tick", text_anchor="middle"))
        for number, row in enumerate(shares):
            start = middle + (number - len(shares) / 2) * width
            height = bottom - y(row[column])
            parts.append(
                tag("rect", x=start + 0.5, y=bottom - height, width=width - 1, height=height, cls=f"split-{number}")
            )
    return drawing(parts, bottom + 24, title)


def _range_label(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:g}+"
    return f"<{high:g}" if not low else f"{low:g}–{high:g}"


def _count_label(low: float, high: float) -> str:
    if math.isinf(high):
        return f"{low:g}+"
    return f"{low:g}" if high == low + 1 else f"{low:g}–{high - 1:g}"

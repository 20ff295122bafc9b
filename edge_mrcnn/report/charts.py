"""Charts as inline SVG. Colours are CSS classes of the page, so that one drawing serves light, dark and print."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_mrcnn.report.rows import Comparison, Drop, Row
from edge_mrcnn.report.wording import signed_loss

WIDTH = 440
"""Units of every chart's width: text of 11 units stays legible on a phone and is not huge on a desktop."""
LINE = 14
"""Least distance between two lines of text, in units."""
STAGES = ("preprocess", "inference", "postprocess")


def tag(name: str, text: str = "", **attributes: object) -> str:
    """One SVG element; `cls` becomes `class`, underscores hyphens. `text` is escaped unless it is markup already."""
    names = {"cls": "class"}
    given = "".join(f' {names.get(k, k.replace("_", "-"))}="{_plain(v)}"' for k, v in attributes.items())
    return f"<{name}{given}>{text}</{name}>" if text else f"<{name}{given}/>"


def text(content: str, x: float, y: float, **attributes: object) -> str:
    """A line of text; its baseline starts at (x, y)."""
    return tag("text", html.escape(content), x=x, y=y, **attributes)


def drawing(parts: Sequence[str], height: float, title: str) -> str:
    """A whole chart with a title for those who do not see it."""
    body = tag("title", html.escape(title)) + "".join(parts)
    return tag("svg", body, viewBox=f"0 0 {WIDTH} {_plain(height)}", role="img", cls="chart")


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
        raw = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def accuracy_chart(comparison: Comparison) -> str:
    """Mask AP over latency; up and left is better. Models that ran on another device lend a line, not a point."""
    rows = [row for row in comparison.rows if comparison.speed_up(row) is not None]
    aps = [100 * row.score.mask.ap for row in comparison.rows]
    spread = max(max(aps) - min(aps), 2.0)
    height, left, right, top, bottom = 290, 34, WIDTH - 12, 18, 246
    x = Scale(0.0, 1.18 * max(row.latency_ms for row in rows), left, right)
    y = Scale(max(0.0, min(aps) - 0.35 * spread), max(aps) + 0.25 * spread, bottom, top)
    parts = [_grid_line(left, right, y(tick), _number(tick)) for tick in y.ticks()]
    parts += [text(_number(tick), x(tick), bottom + 16, cls="tick", text_anchor="middle") for tick in x.ticks()]
    parts.append(text("ms per frame, median", right, bottom + 34, cls="axis", text_anchor="end"))
    parts.append(text("mask AP", left, top - 6, cls="axis"))
    level = y(aps[0])
    parts.append(tag("line", x1=left, x2=right, y1=level, y2=level, cls="reference"))
    points = [(x(row.latency_ms), y(100 * row.score.mask.ap)) for row in rows]
    parts += [_marker(row, *point) for row, point in zip(rows, points, strict=True)]
    parts += _point_labels([row.name for row in rows], points, middle=(left + right) / 2, span=(top + 8, bottom - 4))
    return drawing(parts, height, "Mask AP over latency of each model")


def drop_chart(comparison: Comparison) -> str:
    """AP that each candidate lost on boxes and masks, with its interval and the limit."""
    drops = [(row, row.score.box_drop, row.score.mask_drop) for row in comparison.candidates]
    limit = limit_of(comparison)
    known = [d for _, *pair in drops for d in pair if d is not None and not math.isnan(d.value)]
    low, high = _drop_range(known, limit)
    left, right, top, step = 34, WIDTH - 44, 22, 54
    bottom = top + step * len(drops)
    x = Scale(100 * low, 100 * high, left, right)
    parts = []
    for tick in x.ticks():
        style = "zero" if abs(tick) < 1e-9 else "grid"
        parts.append(tag("line", x1=x(tick), x2=x(tick), y1=top, y2=bottom, cls=style))
        parts.append(text(_number(tick), x(tick), bottom + 16, cls="tick", text_anchor="middle"))
    parts.append(tag("line", x1=x(100 * limit), x2=x(100 * limit), y1=top - 4, y2=bottom, cls="limit"))
    word = "limit" if comparison.max_drop is not None else "1 point"
    parts.append(text(word, x(100 * limit), top - 8, cls="limit-label", text_anchor="middle"))
    for index, (row, box, mask) in enumerate(drops):
        y = top + step * index
        parts.append(text(_shorten(row.name, 44), left, y + 13, cls="label"))
        parts += _drop_bar("box", box, x, y + 18, limit) + _drop_bar("mask", mask, x, y + 33, limit)
    parts.append(
        text(
            "AP points lost; whiskers: 95 % of resampled image sets", right, bottom + 34, cls="axis", text_anchor="end"
        )
    )
    return drawing(parts, bottom + 42, "AP lost by each model against the reference")


def stage_chart(comparison: Comparison) -> str:
    """Where each frame's time goes."""
    rows = [row for row in comparison.rows if comparison.speed_up(row) is not None]
    left, right, step = 2, WIDTH - 60, 40
    x = Scale(0.0, max(row.latency_ms for row in rows), left, right)
    parts = []
    for index, row in enumerate(rows):
        y, start = step * index, 0.0
        parts.append(text(_shorten(row.name, 48), left, y + 13, cls="label"))
        for stage in STAGES:
            share = row.latency[stage].p50 if stage in row.latency else 0.0
            width = max(x(start + share) - x(start), 0.0)
            parts.append(tag("rect", x=x(start), y=y + 19, width=width, height=12, cls=f"stage-{stage}"))
            start += share
        parts.append(text(f"{row.latency_ms:.1f} ms", x(row.latency_ms) + 6, y + 29, cls="value"))
    return drawing(parts, step * len(rows) + 4, "Median time of each stage")


def limit_of(comparison: Comparison) -> float:
    """The drop that colours turn red at, in [0, 1]: the gate's, or one point."""
    return 0.01 if comparison.max_drop is None else comparison.max_drop


def level_of(lost: float, limit: float) -> str:
    """CSS class of a loss in [-1, 1]: good up to half the limit, fair up to the limit, else bad."""
    return "good" if lost <= limit / 2 else "fair" if lost <= limit + 1e-9 else "bad"


def _drop_range(drops: Sequence[Drop], limit: float) -> tuple[float, float]:
    """Room for every bar and for whiskers up to a sensible length."""
    values = [d.value for d in drops] or [0.0]
    reach = max(2.5 * limit, 1.6 * max(abs(v) for v in values))
    ends = [min(max(end, -reach), reach) for d in drops for end in d.interval if not math.isnan(end)]
    return min(-0.15 * limit, *values, *ends), max(1.25 * limit, *values, *ends)


def _drop_bar(what: str, drop: Drop | None, x: Scale, y: float, limit: float) -> list[str]:
    name = text(what, x.start - 5, y + 9, cls="tick", text_anchor="end")
    if drop is None or math.isnan(drop.value):
        return [name, text("not measurable", x(0) + 5, y + 9, cls="tick")]
    start, end = sorted((x(0.0), x(100 * drop.value)))
    bar = tag(
        "rect", x=start, y=y, width=max(end - start, 1.5), height=11, rx=2, cls=f"bar {level_of(drop.value, limit)}"
    )
    value = text(signed_loss(drop.value), WIDTH - 2, y + 9, cls="value", text_anchor="end")
    if math.isnan(drop.interval[0]):
        return [name, bar, value]
    low, high = (x(100 * end) for end in drop.interval)
    return [name, bar, tag("line", x1=low, x2=high, y1=y + 5.5, y2=y + 5.5, cls="whisker"), value]


def _grid_line(left: float, right: float, y: float, label: str) -> str:
    line = tag("line", x1=left, x2=right, y1=y, y2=y, cls="grid")
    return line + text(label, left - 6, y + 4, cls="tick", text_anchor="end")


def _marker(row: Row, x: float, y: float) -> str:
    """A circle for float models, a diamond for INT8 ones, in the target's colour."""
    style = f"dot target-{html.escape(row.target)}"
    if row.precision == "int8":
        return tag(
            "rect", x=x - 5, y=y - 5, width=10, height=10, transform=f"rotate(45 {_plain(x)} {_plain(y)})", cls=style
        )
    return tag("circle", cx=x, cy=y, r=6, cls=style)


def _point_labels(
    names: Sequence[str], points: Sequence[tuple[float, float]], *, middle: float, span: tuple[float, float]
) -> list[str]:
    """Names beside their points, towards the middle of the chart, pushed apart where they would overlap."""
    parts = []
    for is_left in (True, False):
        chosen = sorted((i for i, (x, _) in enumerate(points) if (x < middle) == is_left), key=lambda i: points[i][1])
        heights = spread_out([points[i][1] + 4 for i in chosen], LINE, span)
        for i, y in zip(chosen, heights, strict=True):
            x = points[i][0] + (12 if is_left else -12)
            anchor = "start" if is_left else "end"
            if abs(y - 4 - points[i][1]) > 3:
                parts.append(tag("line", x1=points[i][0], y1=points[i][1], x2=x, y2=y - 4, cls="leader"))
            parts.append(text(_shorten(names[i], 30), x, y, cls="label", text_anchor=anchor))
    return parts


def spread_out(values: Sequence[float], gap: float, span: tuple[float, float]) -> list[float]:
    """Ascending values moved as little as it takes to lie `gap` apart, the last ones first kept inside `span`."""
    placed: list[float] = []
    for value in values:
        placed.append(max(value, placed[-1] + gap if placed else span[0]))
    limit = span[1]
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - gap
    return placed


def _shorten(name: str, length: int) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _number(value: float) -> str:
    return f"{value:.10g}".replace("-", "−") if abs(value) > 1e-9 else "0"


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else html.escape(str(value))

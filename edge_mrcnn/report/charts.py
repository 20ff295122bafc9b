"""Charts as inline SVG. Colours are CSS classes of the page, so that one drawing serves light, dark and print."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_mrcnn.report.rows import Comparison, Drop, Row
from edge_mrcnn.report.wording import signed_loss

Point = tuple[float, float]
Box = tuple[float, float, float, float]

WIDTH = 440
"""Units of every chart's width: text of 11 units stays legible on a phone and is not huge on a desktop."""
LINE = 14
"""Height of a line of text, in units."""
LETTER = 5.9
"""Mean width of a letter of 11 units, in units."""
OFFSETS = [(9, -7, 0.0), (-9, -7, -1.0), (0, -22, -0.5), (0, 9, -0.5), (9, -22, 0.0), (9, 9, 0.0), (-9, -22, -1.0)]
OFFSETS += [(-9, 9, -1.0), (0, -40, -0.5), (0, 27, -0.5), (0, -56, -0.5), (0, 43, -0.5)]
"""Places of a label in order of preference: shift in x and y, and share of its width, from the point."""
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
    parts += _point_labels([row.name for row in rows], points, (left, 0, WIDTH, bottom))
    return drawing(parts, height, "Mask AP over latency of each model")


def change_chart(comparison: Comparison) -> str:
    """Change in box and mask AP of each candidate, with its interval and the limit; losses point left."""
    limit = limit_of(comparison)
    scores = [(row, row.score.box_drop, row.score.mask_drop) for row in comparison.candidates]
    low, high = _change_range([drop for _, *pair in scores for drop in pair if drop is not None], limit)
    left, right, top, step = 34, WIDTH - 46, 22, 54
    bottom = top + step * len(scores)
    x = Scale(low, high, left, right)
    parts = [_upright(x(tick), top, bottom, _number(tick), is_zero=abs(tick) < 1e-9) for tick in x.ticks()]
    parts.append(tag("line", x1=x(-100 * limit), x2=x(-100 * limit), y1=top - 4, y2=bottom, cls="limit"))
    word = "one point" if comparison.max_drop is None else "limit"
    parts.append(text(word, x(-100 * limit), top - 8, cls="limit-label", text_anchor="middle"))
    for index, (row, box, mask) in enumerate(scores):
        y = top + step * index
        parts.append(text(_shorten(row.name, 44), left, y + 13, cls="label"))
        parts += _change_bar("box", box, x, y + 18, limit) + _change_bar("mask", mask, x, y + 33, limit)
    parts.append(
        text("AP points; whiskers: 95 % of resampled image sets", right, bottom + 34, cls="axis", text_anchor="end")
    )
    return drawing(parts, bottom + 42, "Change in AP of each model against the reference")


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


def _change_range(drops: Sequence[Drop], limit: float) -> tuple[float, float]:
    """Points at both ends of the axis: room for every bar, and for whiskers up to a sensible length."""
    values = [-drop.value for drop in drops if not math.isnan(drop.value)] or [0.0]
    reach = max(2.5 * limit, 1.6 * max(abs(value) for value in values))
    ends = [min(max(-end, -reach), reach) for drop in drops for end in drop.interval if not math.isnan(end)]
    return 100 * min(-1.25 * limit, *values, *ends), 100 * max(0.25 * limit, *values, *ends)


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
    low, high = (x(-100 * end) for end in drop.interval)
    return [name, bar, tag("line", x1=low, x2=high, y1=y + 5.5, y2=y + 5.5, cls="whisker"), value]


def _upright(x: float, top: float, bottom: float, label: str, *, is_zero: bool) -> str:
    line = tag("line", x1=x, x2=x, y1=top, y2=bottom, cls="zero" if is_zero else "grid")
    return line + text(label, x, bottom + 16, cls="tick", text_anchor="middle")


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


def place_labels(widths: Sequence[float], points: Sequence[Point], frame: Box) -> list[Box]:
    """A free place beside each point for its label, the first of `OFFSETS` that touches nothing.

    Args:
        widths: Of the labels.
        points: What they belong to.
        frame: Where labels may lie.

    Returns:
        One box x0 y0 x1 y1 for each label.
    """
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    placed = []
    for width, (x, y) in zip(widths, points, strict=True):
        places = [(x + dx + width * share, y + dy) for dx, dy, share in OFFSETS]
        boxes = [(px, py, px + width, py + LINE) for px, py in places]
        best = min(boxes, key=lambda box: sum(_overlap(box, other) for other in taken) + _outside(box, frame))
        taken.append(best)
        placed.append(best)
    return placed


def _point_labels(names: Sequence[str], points: Sequence[Point], frame: Box) -> list[str]:
    names = [_shorten(name, 30) for name in names]
    parts = []
    for name, (x, y), (x0, y0, x1, y1) in zip(
        names, points, place_labels([LETTER * len(name) for name in names], points, frame), strict=True
    ):
        if not y0 - 12 <= y <= y1 + 12:
            parts.append(tag("line", x1=x, y1=y, x2=(x0 + x1) / 2, y2=y1 if y1 < y else y0, cls="leader"))
        parts.append(text(name, (x0 + x1) / 2, y1 - 3, cls="label", text_anchor="middle"))
    return parts


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, frame: Box) -> float:
    """A penalty above any overlap for what lies outside the frame."""
    beyond = (frame[0] - box[0], frame[1] - box[1], box[2] - frame[2], box[3] - frame[3])
    return 1000.0 * sum(max(0.0, b) for b in beyond)


def _shorten(name: str, length: int) -> str:
    return name if len(name) <= length else f"…{name[1 - length :]}"


def _number(value: float) -> str:
    return f"{value:.10g}".replace("-", "−") if abs(value) > 1e-9 else "0"


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else html.escape(str(value))

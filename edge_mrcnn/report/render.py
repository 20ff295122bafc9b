"""A report as HTML in one file, as JSON, and its charts as files; the records come from `rows`."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from edge_mrcnn import __version__
from edge_mrcnn.evaluation.breakdown import KINDS
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.evaluation.pairing import Change
from edge_mrcnn.report import charts
from edge_mrcnn.report.pictures import Strip
from edge_mrcnn.report.rows import Comparison, ReportRow, Score, without_nan
from edge_mrcnn.report.variants import group_variants
from edge_mrcnn.report.wording import (
    KIND_WORDS,
    delta,
    describe_data,
    giga,
    interval,
    largest_drop,
    megabytes,
    millions,
    points,
    say_precision,
    share,
    signed_count,
    signed_loss,
    signed_points,
    span,
    times,
    timing_note,
    verdict,
)
from runtimes.errors import MissingExtraError

try:
    import jinja2
    from markupsafe import Markup
except ModuleNotFoundError as error:
    raise MissingExtraError("jinja2 is needed to write reports: pip install 'edge-mrcnn[report]'") from error


CLASS_FACTOR = 5
"""A single class varies more than the mean: it turns red at this many times the allowed drop."""
MANY_CLASSES = 12
"""With more classes, the class tables show only those with the largest changes."""
PLOT_FRAME = "svg { background: #fff; font: 11px system-ui, sans-serif; } .axis, .tick { font-size: 10.5px; }"
"""Style of a standalone chart."""


@dataclass(frozen=True)
class Tile:
    """A main figure at the top of the page."""

    label: str
    value: str
    unit: str
    note: str


def to_html(comparison: Comparison, strips: Sequence[Strip] = ()) -> str:
    """The report as one self-contained page without scripts."""
    limit = charts.limit_of(comparison)
    is_judged = comparison.has_usable_reference

    def level(lost: float, factor: float = 1.0) -> str:
        """No colour for drops from a reference without detections."""
        return charts.level_of(lost, factor * limit) if is_judged else "none"

    return _open_template().render(
        report=comparison,
        version=__version__,
        verdict=verdict(comparison),
        verdict_class=_verdict_class(comparison),
        tiles=make_tiles(comparison),
        level=lambda drop: level(drop.value),
        loss_level=level,
        class_level=lambda lost: level(lost, CLASS_FACTOR),
        targets=list(dict.fromkeys(row.target for row in comparison.rows)),
        charts={name: Markup(chart) for name, chart in draw_charts(comparison).items()},
        chart_style=Markup(_read("charts.css")),
        variants=group_variants(comparison),
        kinds=[(kind, KIND_WORDS[kind]) for kind in KINDS],
        groups=make_groups(comparison),
        layers=make_layers(comparison),
        reasons=make_reasons(comparison),
        strips=strips,
        per_class=per_class,
        columns=_columns,
        say_precision=say_precision,
    )


def _columns(count: int) -> int:
    """Number of panels per row: at most five, in rows of about equal length."""
    rows = math.ceil(count / 5)
    return math.ceil(count / rows)


def _verdict_class(comparison: Comparison) -> str:
    """CSS class of the verdict; "" without an allowed drop."""
    if not comparison.has_usable_reference:
        return "bad"
    if comparison.max_drop is None:
        return ""
    return "bad" if comparison.too_lossy else "good"


def draw_charts(comparison: Comparison) -> dict[str, str]:
    """Name -> chart, as SVG with colours from `charts.css`."""
    drawn = {
        "latency": charts.trade_chart(comparison, charts.LATENCY),
        "size": charts.trade_chart(comparison, charts.SIZE),
        "stages": charts.stage_chart(comparison),
    }
    if len({row.macs for row in comparison.rows if row.macs}) > 1:
        drawn["macs"] = charts.trade_chart(comparison, charts.MACS)
    if comparison.candidates:
        drawn["change"] = charts.change_chart(comparison)
        drawn["mistakes"] = charts.mistake_chart(comparison)
        drawn["objects"] = charts.pair_chart(comparison)
    return drawn


def to_plots(comparison: Comparison) -> dict[str, str]:
    """File name -> standalone chart on white."""
    head = f"<style>{_light_style()}{PLOT_FRAME}</style>"
    plots = {}
    for name, chart in draw_charts(comparison).items():
        alone = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        plots[f"{name}.svg"] = alone.replace(">", f">{head}", 1)
    return plots


def _light_style() -> str:
    """The style of the charts without the rules for a dark page."""
    style = _read("charts.css")
    before, _, _ = style.partition("@media")
    _, _, after = style.partition("}\n}\n")
    return before + after


def to_json(comparison: Comparison) -> str:
    """All records; AP and drops in [0, 1], latency in milliseconds, null if something cannot be measured."""
    record = asdict(comparison)
    for row, source in zip(record["rows"], comparison.rows, strict=True):
        row["speed_up"] = comparison.speed_up(source)
        for data, score in zip(comparison.data_sets, row["scores"].values(), strict=True):
            _add_precision(score, source.scores[data.label], data.images)
            if score["agreement"]:
                del score["agreement"]["change"]
    record["speed_base"] = comparison.speed_base.name
    record["too_lossy"] = [row.name for row in comparison.too_lossy]
    return json.dumps(without_nan(record), indent=2, ensure_ascii=False) + "\n"


def _add_precision(record: dict[str, Any], score: Score, images: int) -> None:
    """Add to each drop how far its interval reaches, and how many images would show half a point, in place."""
    for name in ("box_drop", "mask_drop"):
        drop: Drop | None = getattr(score, name)
        if drop is not None:
            record[name] |= {"half_width": drop.half_width, "images_for_half_a_point": drop.images_to_see(images)}


def make_tiles(comparison: Comparison) -> list[Tile]:
    """The reference's AP, and the largest drop, the smallest file and the fastest model of the others."""
    reference = comparison.reference
    box_ap = points(reference.score.box.ap)
    first = Tile("Reference, mask AP", points(reference.score.mask.ap), "", f"box {box_ap} · {reference.name}")
    if not comparison.candidates:
        return [first]
    lossy, drop = largest_drop(comparison)
    small = min(comparison.candidates, key=lambda row: row.size_bytes)
    ratio = f"{reference.size_bytes / small.size_bytes:.1f}× smaller"
    timed = [row for row in comparison.candidates if comparison.speed_up(row)]
    fast = min(timed, key=lambda row: row.latency_ms)
    speed_up = times(comparison.speed_up(fast))
    return [
        first,
        Tile("Largest drop", delta(drop), "AP", lossy.name),
        Tile("Smallest file", megabytes(small.size_bytes), "MB", f"{ratio} · {small.name}"),
        Tile("Fastest", f"{fast.latency_ms:.1f}", "ms", f"{speed_up} as fast · {fast.name}"),
    ]


def per_class(comparison: Comparison, label: str, metric: str) -> list[tuple[str, list[float | None]]]:
    """Class name -> AP of each row, in [0, 1]; the largest losses come first."""
    columns = [getattr(row.scores[label], f"{metric}_per_class") for row in comparison.rows]
    reference = columns[0]
    table = []
    for name, ap in reference.items():
        if not math.isnan(ap):
            table.append((name, [column[name] for column in columns]))
    return sorted(table, key=_worst_change)


def _worst_change(entry: tuple[str, list[float]]) -> float:
    _, aps = entry
    return min(aps) - aps[0]


def make_groups(comparison: Comparison) -> list[tuple[str, list[tuple[str, list[Change]]]]]:
    """Criterion of the groups -> name of each group and each candidate's changes in it."""
    pairings = [row.score.pairing for row in comparison.candidates if row.score.pairing]
    if not pairings:
        return []
    parts = [("size", "by_size"), ("score", "by_score")]
    if len(comparison.data_sets[0].classes) > 1:
        parts.append(("class", "by_class"))
    groups = []
    for title, field in parts:
        names = list(getattr(pairings[0], field))
        table = [(name, [getattr(pairing, field)[name] for pairing in pairings]) for name in names]
        if field == "by_class":
            table.sort(key=lambda entry: min(change.gained - change.lost for change in entry[1]))
        groups.append((title, table[:MANY_CLASSES]))
    return groups


def make_layers(comparison: Comparison) -> tuple[list[ReportRow], list[tuple[str, list[tuple[int, int]]]]]:
    """Models with INT8 layers; each part of the model -> number of its INT8 and float layers in each of them."""
    rows = [row for row in comparison.rows if _integer_layers(row)]
    parts: dict[str, None] = {}  # a dict, because it keeps the order of first occurrence
    for row in rows:
        parts.update(dict.fromkeys(row.layers))
    table = []
    for part in parts:
        table.append((part, [row.layers.get(part, (0, 0)) for row in rows]))
    return rows, table


def _integer_layers(row: ReportRow) -> int:
    return sum(integer for integer, _ in row.layers.values())


def make_reasons(comparison: Comparison) -> list[tuple[str, str, list[str]]]:
    """Layers kept in float, the reason, and the models, from the model cards."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in comparison.rows:
        for what, why in row.card.get("calibration", {}).get("float", {}).items():
            found.setdefault((what, str(why)), []).append(row.name)
    return [(what, why, names) for (what, why), names in found.items()]


def jpeg_uri(data: bytes) -> str:
    """A JPEG file as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _open_template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    spoken = (
        points, delta, signed_loss, signed_count, signed_points, interval, megabytes, millions, giga, span, times,
        share, describe_data, timing_note,
    )  # fmt: skip
    environment.filters.update({function.__name__: function for function in spoken})
    environment.filters.update(jpeg_uri=jpeg_uri, pretty=_pretty, when=_when, percent=lambda ap: 100 * ap)
    return environment.from_string(_read("report.html.j2"))


def _read(name: str) -> str:
    return files("edge_mrcnn.report").joinpath(name).read_text("utf-8")


def _pretty(record: dict[str, Any]) -> str:
    """JSON with one line per entry."""
    lines = []
    for key, value in without_nan(record).items():
        lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}"


def _when(created: str) -> str:
    """A readable time: 3 May 2026, 14:05."""
    moment = datetime.datetime.fromisoformat(created)
    return f"{moment.day} {moment:%B %Y, %H:%M}"

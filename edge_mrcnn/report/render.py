"""A report as HTML in one file and as JSON; the records come from `rows`, the pictures from `pictures`."""

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
from edge_mrcnn.report import charts
from edge_mrcnn.report.pictures import Strip
from edge_mrcnn.report.rows import Comparison, without_nan
from edge_mrcnn.report.wording import (
    delta,
    describe_data,
    interval,
    largest_drop,
    megabytes,
    points,
    share,
    signed_loss,
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
"""A single class varies more than their mean: it turns red at this many times the limit."""


@dataclass(frozen=True)
class Tile:
    """A figure to see first."""

    label: str
    value: str
    unit: str
    note: str


def to_html(comparison: Comparison, strips: Sequence[Strip] = ()) -> str:
    """The report as one page that needs no other file and no script."""
    limit = charts.limit_of(comparison)
    return _open_template().render(
        report=comparison,
        version=__version__,
        verdict=verdict(comparison),
        passed=not comparison.too_lossy,
        tiles=make_tiles(comparison),
        level=lambda drop: charts.level_of(drop.value, limit),
        class_level=lambda lost: charts.level_of(lost, CLASS_FACTOR * limit),
        targets=list(dict.fromkeys(row.target for row in comparison.rows)),
        accuracy_chart=Markup(charts.accuracy_chart(comparison)),
        change_chart=Markup(charts.change_chart(comparison)),
        stage_chart=Markup(charts.stage_chart(comparison)),
        strips=strips,
        per_class=per_class,
        columns=lambda count: math.ceil(count / math.ceil(count / 5)),
    )


def to_json(comparison: Comparison) -> str:
    """All records; AP and drops in [0, 1], latency in milliseconds, null where nothing can be measured."""
    record = asdict(comparison)
    for row, source in zip(record["rows"], comparison.rows, strict=True):
        row["speed_up"] = comparison.speed_up(source)
        for score in row["scores"].values():
            if score["agreement"]:
                del score["agreement"]["change"]
    record["speed_base"] = comparison.speed_base.name
    record["too_lossy"] = [row.name for row in comparison.too_lossy]
    return json.dumps(without_nan(record), indent=2, ensure_ascii=False) + "\n"


def make_tiles(comparison: Comparison) -> list[Tile]:
    """The reference's AP, and the largest change, the smallest file and the fastest model of the others."""
    reference = comparison.reference
    first = Tile(
        "Reference, mask AP",
        points(reference.score.mask.ap),
        "",
        f"box {points(reference.score.box.ap)} · {reference.name}",
    )
    if not comparison.candidates:
        return [first]
    lossy, drop = largest_drop(comparison)
    small = min(comparison.candidates, key=lambda row: row.size_bytes)
    ratio = f"{reference.size_bytes / small.size_bytes:.1f}× smaller"
    fast = min((row for row in comparison.candidates if comparison.speed_up(row)), key=lambda row: row.latency_ms)
    return [
        first,
        Tile("Worst change", delta(drop), "AP", lossy.name),
        Tile("Smallest file", megabytes(small.size_bytes), "MB", f"{ratio} · {small.name}"),
        Tile("Fastest", f"{fast.latency_ms:.1f}", "ms", f"{times(comparison.speed_up(fast))} as fast · {fast.name}"),
    ]


def per_class(comparison: Comparison, label: str, metric: str) -> list[tuple[str, list[float | None]]]:
    """Class name to the AP of each row, in [0, 1]; the largest losses come first."""
    columns = [getattr(row.scores[label], f"{metric}_per_class") for row in comparison.rows]
    table = [(name, [column[name] for column in columns]) for name, ap in columns[0].items() if not math.isnan(ap)]
    return sorted(table, key=lambda entry: min(entry[1]) - entry[1][0])


def jpeg_uri(data: bytes) -> str:
    """A JPEG file as a data URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _open_template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    spoken = (points, delta, signed_loss, interval, megabytes, times, share, describe_data, timing_note)
    environment.filters.update({function.__name__: function for function in spoken})
    environment.filters.update(jpeg_uri=jpeg_uri, pretty=_pretty, when=_when)
    return environment.from_string(files("edge_mrcnn.report").joinpath("report.html.j2").read_text("utf-8"))


def _pretty(record: dict[str, Any]) -> str:
    """JSON with one line per entry."""
    lines = (f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in without_nan(record).items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _when(created: str) -> str:
    """A time as people write it: 3 May 2026, 14:05."""
    moment = datetime.datetime.fromisoformat(created)
    return f"{moment.day} {moment:%B %Y, %H:%M}"

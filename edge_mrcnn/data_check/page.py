"""The result as one self-contained HTML page without scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.resources import files

from edge_mrcnn import __version__
from edge_mrcnn.data_check import charts
from edge_mrcnn.data_check.sheet import Card, fault_cards, sample_cards
from edge_mrcnn.data_check.survey import DataCheck, SplitSummary
from edge_mrcnn.data_check.wording import describe_split, verdict
from runtimes.errors import MissingExtraError

try:
    import jinja2
    from markupsafe import Markup
except ModuleNotFoundError as error:
    raise MissingExtraError("jinja2 is needed to write the page: pip install 'edge-mrcnn[report]'") from error

CARDS = 12
"""Number of images of each split on the contact sheet."""
FAULT_CARDS = 8
LISTED = 200
"""Maximum number of places of a finding on the page; the JSON has all."""


def to_html(check: DataCheck) -> str:
    """The page: the verdict, every finding with its places, histograms and a contact sheet."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(jpeg_uri=_jpeg_uri, describe_split=describe_split, sizes=common_sizes)
    source = files("edge_mrcnn.data_check").joinpath("page.html.j2").read_text("utf-8")
    template = environment.from_string(source)
    return template.render(
        check=check,
        version=__version__,
        verdict=verdict(check),
        level=_level(check),
        listed=LISTED,
        class_chart=Markup(charts.class_chart(check.summaries)),
        size_chart=Markup(charts.size_chart(check.summaries)),
        crowding_chart=Markup(charts.crowding_chart(check.summaries)),
        shown_classes=charts.MOST_CLASSES,
        faulty=fault_cards(check.records, check.findings, FAULT_CARDS),
        sheet=_sheet(check),
    )


def common_sizes(summary: SplitSummary) -> str:
    """The most common image sizes, and how many others there are."""
    top = summary.sizes.most_common(3)
    others = len(summary.sizes) - len(top)
    text = ", ".join(f"{width}×{height} ({count})" for (width, height), count in top)
    return f"{text} and {others} other sizes" if others else text


def _sheet(check: DataCheck) -> Sequence[tuple[str, list[Card]]]:
    return [(records.split, sample_cards(records, CARDS)) for records in check.records]


def _level(check: DataCheck) -> str:
    if check.count("error"):
        return "bad"
    if check.count("warning"):
        return "fair"
    return "good"


def _jpeg_uri(data: bytes) -> str:
    encoded = base64.b64encode(data).decode()
    return f"data:image/jpeg;base64,{encoded}"

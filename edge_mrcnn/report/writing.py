"""Output files of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.report.comparison import Measured
from edge_mrcnn.report.markdown import to_markdown
from edge_mrcnn.report.pictures import Strip, draw_strips
from edge_mrcnn.report.render import to_html, to_json, to_plots


def write_report(measured: Measured, data_sets: Mapping[str, CocoData], output: Path) -> None:
    """Write report.html, report.md, report.json and plots/*.svg into a folder, which is made."""
    comparison = measured.comparison
    names = [row.name for row in comparison.rows]
    strips: list[Strip] = []
    for label, data in data_sets.items():
        count = 3 if not strips else 2  # the main data set gets more pictures
        evaluations = dict(zip(names, measured.evaluations[label], strict=True))
        strips += draw_strips(label, data, evaluations, changed=count, typical=count)
    (output / "plots").mkdir(parents=True, exist_ok=True)
    for name, plot in to_plots(comparison).items():
        (output / "plots" / name).write_text(plot, encoding="utf-8")
    (output / "report.html").write_text(to_html(comparison, strips), encoding="utf-8")
    (output / "report.md").write_text(to_markdown(comparison), encoding="utf-8")
    (output / "report.json").write_text(to_json(comparison), encoding="utf-8")

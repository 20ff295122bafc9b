"""A report as GitHub Markdown that also reads well in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edge_mrcnn.report.rows import Comparison, Row, Score
from edge_mrcnn.report.wording import (
    NONE,
    delta,
    describe_data,
    interval,
    megabytes,
    points,
    share,
    times,
    timing_note,
    verdict,
)


def to_markdown(comparison: Comparison) -> str:
    """The tables and the verdict as GitHub Markdown."""
    lines = [f"# {comparison.title}", "", verdict(comparison), "", *headline_table(comparison), ""]
    lines.append(timing_note(comparison))
    for data in comparison.data_sets:
        lines += ["", f"## {data.label}: {describe_data(data)}", "", *_accuracy_table(comparison, data.label)]
    lines += ["", "## Provenance", ""]
    lines += [f"- {row.name}: sha256 `{row.sha256}`" for row in comparison.rows]
    lines += [f"- {data.label}: sha256 `{data.sha256}`" for data in comparison.data_sets]
    packages = ", ".join(f"{name} {version}" for name, version in comparison.packages.items())
    lines += [f"- measured {comparison.created} with {packages}"]
    return "\n".join(lines) + "\n"


def headline_table(comparison: Comparison) -> list[str]:
    """One line per model: size, AP, change, speed; further data sets add two columns each."""
    header = [
        "model",
        "target",
        "precision",
        "MB",
        "box AP",
        "Δ box",
        "mask AP",
        "Δ mask",
        "same objects",
        "ms",
        "speed-up",
    ]
    for data in comparison.data_sets[1:]:
        header += [f"{data.label}: mask AP", "Δ mask"]
    body = [_headline_cells(comparison, row) for row in comparison.rows]
    return _table(header, body, text_columns=3)


def _headline_cells(comparison: Comparison, row: Row) -> list[str]:
    score = row.score
    cells = [row.name, row.target, row.precision, megabytes(row.size_bytes)]
    cells += [points(score.box.ap), delta(score.box_drop), points(score.mask.ap), delta(score.mask_drop)]
    cells += [share(score.agreement.found) if score.agreement else NONE]
    cells += [f"{row.latency_ms:.1f}", times(comparison.speed_up(row))]
    for other in list(row.scores.values())[1:]:
        cells += [points(other.mask.ap), delta(other.mask_drop)]
    return cells


def _accuracy_table(comparison: Comparison, label: str) -> list[str]:
    header = ["model", "", "AP", "Δ", "95 %", "AP50", "AP75", "small", "medium", "large", "AR100"]
    body = []
    for row in comparison.rows:
        score = row.scores[label]
        body += [[row.name, *_accuracy_cells(score, "box")], ["", *_accuracy_cells(score, "mask")]]
    return _table(header, body, text_columns=2)


def _accuracy_cells(score: Score, metric: str) -> list[str]:
    summary, drop = getattr(score, metric), getattr(score, f"{metric}_drop")
    aps = (summary.ap50, summary.ap75, summary.ap_small, summary.ap_medium, summary.ap_large, summary.ar100)
    return [metric, points(summary.ap), delta(drop), interval(drop), *map(points, aps)]


def _table(header: Sequence[str], body: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    """Markdown lines, padded so that they also align in a terminal."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *body, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            c.ljust(w) if i < text_columns else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (w + 2)) if i < text_columns else "-" * (w + 1) + ":" for i, w in enumerate(widths)]
    return [line(header), f"|{'|'.join(rule)}|", *map(line, body)]

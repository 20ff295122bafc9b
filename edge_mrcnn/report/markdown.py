"""A report as GitHub Markdown that also reads well in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_mrcnn.evaluation.breakdown import KINDS, ErrorCost
from edge_mrcnn.report.rows import Comparison, ReportRow, Score
from edge_mrcnn.report.variants import Variant, group_variants
from edge_mrcnn.report.wording import (
    KIND_WORDS,
    delta,
    describe_data,
    describe_run,
    giga,
    interval,
    megabytes,
    millions,
    points,
    share,
    signed_count,
    signed_loss,
    signed_points,
    span,
    times,
    timing_note,
    verdict,
)
from edge_mrcnn.tables import NONE, Table


def to_markdown(comparison: Comparison) -> str:
    """The tables and the verdict as GitHub Markdown."""
    lines = [f"# {comparison.title}", "", verdict(comparison), "", *headline_table(comparison), ""]
    lines.append(timing_note(comparison))
    for title, body in _sections(comparison):
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def headline_table(comparison: Comparison) -> list[str]:
    """One line per model: size, AP, change, speed; further data sets add two columns each."""
    header = [
        "model", "target", "precision", "MB", "box AP", "Δ box", "mask AP", "Δ mask", "same objects", "ms", "speed-up",
    ]  # fmt: skip
    for data in comparison.data_sets[1:]:
        header += [f"{data.label}: mask AP", "Δ mask"]
    return _table(header, [_headline_cells(comparison, row) for row in comparison.rows], text_columns=3)


def _sections(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each section that has something to say."""
    variants = group_variants(comparison)
    if len(variants) > 1:
        yield "Step by step", _variant_table(comparison, variants)
    for data in comparison.data_sets:
        yield f"{data.label}: {describe_data(data)}", _accuracy_table(comparison, data.label)
    if comparison.candidates:
        yield "Mask AP that each kind of mistake costs", _cost_table(comparison)
        yield "Objects lost and gained", _pair_table(comparison)
    yield "Time and memory", _resource_table(comparison)
    if any(row.layers for row in comparison.rows):
        yield "Layers: in integers + in floating point", _layer_table(comparison)
    yield "Provenance", _provenance(comparison)


def _headline_cells(comparison: Comparison, row: ReportRow) -> list[str]:
    score = row.score
    cells = [row.name, row.target, row.precision, megabytes(row.size_bytes)]
    cells += [points(score.box.ap), delta(score.box_drop), points(score.mask.ap), delta(score.mask_drop)]
    cells += [share(score.agreement.found) if score.agreement else NONE]
    cells += [f"{row.latency_ms:.1f}", times(comparison.speed_up(row))]
    for other in list(row.scores.values())[1:]:
        cells += [points(other.mask.ap), delta(other.mask_drop)]
    return cells


def _variant_table(comparison: Comparison, variants: Sequence[Variant]) -> list[str]:
    targets = list(dict.fromkeys(row.target for row in comparison.rows))
    header = ["variant", "mask AP", "box AP", "worst Δ", "GMAC", "M weights", "MB", *(f"ms {t}" for t in targets)]
    body = []
    for variant in variants:
        cells = [variant.name, *(span([100 * ap for ap in aps]) for aps in (variant.mask_ap, variant.box_ap))]
        cells += [NONE if variant.worst_drop is None else signed_loss(variant.worst_drop), giga(variant.macs)]
        cells += [millions(variant.parameters), span(variant.size_mb)]
        latency = variant.latency_ms
        body.append([*cells, *(f"{latency[t]:.1f}" if t in latency else NONE for t in targets)])
    return _table(header, body, text_columns=1)


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


def _cost_table(comparison: Comparison) -> list[str]:
    first = comparison.reference.score.mask_costs
    body = [[comparison.reference.name, *(points(first[kind].ap) for kind in KINDS)]]
    body += [[row.name, *_cost_changes(row.score.mask_costs, first)] for row in comparison.candidates]
    return _table(["model", *(KIND_WORDS[kind] for kind in KINDS)], body, text_columns=1)


def _cost_changes(costs: dict[str, ErrorCost], first: dict[str, ErrorCost]) -> list[str]:
    """What more each kind costs, as a change in AP."""
    return [signed_loss(costs[kind].ap - first[kind].ap) for kind in KINDS]


def _pair_table(comparison: Comparison) -> list[str]:
    header = ["model", "found", "lost", "gained", "of nothing", "box IoU", "mask IoU", "score"]
    body = []
    for row in comparison.candidates:
        if row.score.pairing is None:
            continue
        total = row.score.pairing.total
        counts = [f"{total.found} of {total.objects}", f"{total.lost}", f"{total.gained}", signed_count(total.extra)]
        body.append([row.name, *counts, *map(signed_points, (total.box_iou, total.mask_iou, total.score))])
    return _table(header, body, text_columns=1)


def _resource_table(comparison: Comparison) -> list[str]:
    stages = ("preprocess", "inference", "postprocess", "total")
    header = ["model", *(f"{stage}, ms" for stage in stages), "90 %", "GMAC", "M weights", "memory, MB"]
    body = []
    for row in comparison.rows:
        cells = [f"{row.latency[stage].p50:.1f}" if stage in row.latency else NONE for stage in stages]
        cells += [f"{row.latency['total'].p90:.1f}", giga(row.macs), millions(row.parameters)]
        body.append([row.name, *cells, f"{row.memory.peak / 1e6:.0f}" if row.memory else NONE])
    return _table(header, body, text_columns=1)


def _layer_table(comparison: Comparison) -> list[str]:
    rows = [row for row in comparison.rows if row.layers]
    parts = list(dict.fromkeys(part for row in rows for part in row.layers))
    body = [[part, *("{} + {}".format(*row.layers.get(part, (0, 0))) for row in rows)] for part in parts]
    return _table(["part", *(row.name for row in rows)], body, text_columns=1)


def _provenance(comparison: Comparison) -> list[str]:
    lines = []
    for row in comparison.rows:
        lines.append(f"- {row.name}: sha256 `{row.sha256}`; {describe_run(row)}")
        if manifest := row.card.get("calibration", {}).get("manifest_sha256"):
            lines.append(f"  calibrated on {row.card['calibration'].get('images', '?')} images, manifest `{manifest}`")
    lines += [f"- {data.label}: sha256 `{data.sha256}`" for data in comparison.data_sets]
    packages = ", ".join(f"{name} {version}" for name, version in comparison.packages.items())
    return [*lines, f"- measured {comparison.created} with {packages}"]


def _table(header: Sequence[str], body: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    return Table(tuple(header), tuple(map(tuple, body)), text_columns).markdown()

"""A report as GitHub Markdown that also reads well in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_mrcnn.evaluation.breakdown import KINDS
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.evaluation.metrics import ApSummary
from edge_mrcnn.report.rows import Comparison, ReportRow
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
from edge_mrcnn.tables import NONE, Table


def to_markdown(comparison: Comparison) -> str:
    """A report as GitHub Markdown: the verdict and the tables."""
    lines = [f"# {comparison.title}", "", verdict(comparison), "", *headline_table(comparison), ""]
    lines.append(timing_note(comparison))
    for title, body in _sections(comparison):
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def headline_table(comparison: Comparison) -> list[str]:
    """One line per model: size, AP, change, speed; further data sets add two columns each."""
    header = [
        "model", "target", "precision", "MB", "box AP", "Δ box", "mask AP", "Δ mask", "matched", "ms", "speed-up",
    ]  # fmt: skip
    for data in comparison.data_sets[1:]:
        header += [f"{data.label}: mask AP", "Δ mask"]
    return _table(header, [_headline_cells(comparison, row) for row in comparison.rows], text_columns=3)


def _sections(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each section that has content."""
    variants = group_variants(comparison)
    if len(variants) > 1:
        yield "Compression steps", _variant_table(comparison, variants)
    for data in comparison.data_sets:
        precision = say_precision(comparison, data.label)
        table = _accuracy_table(comparison, data.label)
        yield f"{data.label}: {describe_data(data)}", [*table, *(["", precision] if precision else [])]
    if comparison.candidates:
        yield "Mask AP lost to each error type", _cost_table(comparison)
        yield "Objects lost and gained", _pair_table(comparison)
    yield "Time and memory", _resource_table(comparison)
    if any(row.layers for row in comparison.rows):
        yield "Layers: INT8 + float", _layer_table(comparison)
    yield "Provenance", _provenance(comparison)


def _headline_cells(comparison: Comparison, row: ReportRow) -> list[str]:
    score = row.score
    cells = [row.name, row.target, row.precision, megabytes(row.size_bytes)]
    cells += [points(score.box.ap), delta(score.box_drop)]
    cells += [points(score.mask.ap), delta(score.mask_drop)]
    cells.append(share(score.agreement.found) if score.agreement else NONE)
    cells.append(f"{row.latency_ms:.1f}")
    cells.append(times(comparison.speed_up(row)))
    _, *other_scores = row.scores.values()
    for other in other_scores:
        cells += [points(other.mask.ap), delta(other.mask_drop)]
    return cells


def _variant_table(comparison: Comparison, variants: Sequence[Variant]) -> list[str]:
    targets = list(dict.fromkeys(row.target for row in comparison.rows))
    header = ["variant", "mask AP", "box AP", "largest Δ", "GMAC", "M weights", "MB"]
    header += [f"ms {target}" for target in targets]
    body = [_variant_cells(variant, targets) for variant in variants]
    return _table(header, body, text_columns=1)


def _variant_cells(variant: Variant, targets: Sequence[str]) -> list[str]:
    cells = [variant.name]
    for aps in (variant.mask_ap, variant.box_ap):
        cells.append(span([100 * ap for ap in aps]))
    cells.append(NONE if variant.worst_drop is None else signed_loss(variant.worst_drop))
    cells.append(giga(variant.macs))
    cells.append(millions(variant.parameters))
    cells.append(span(variant.size_mb))
    for target in targets:
        latency_ms = variant.latency_ms.get(target)
        cells.append(NONE if latency_ms is None else f"{latency_ms:.1f}")
    return cells


def _accuracy_table(comparison: Comparison, label: str) -> list[str]:
    header = ["model", "", "AP", "Δ", "95 %", "AP50", "AP75", "small", "medium", "large", "AR100"]
    body = []
    for row in comparison.rows:
        score = row.scores[label]
        body.append([row.name, "box", *_accuracy_cells(score.box, score.box_drop)])
        body.append(["", "mask", *_accuracy_cells(score.mask, score.mask_drop)])
    return _table(header, body, text_columns=2)


def _accuracy_cells(summary: ApSummary, drop: Drop | None) -> list[str]:
    cells = [points(summary.ap), delta(drop), interval(drop)]
    cells += [points(summary.ap50), points(summary.ap75)]
    cells += [points(summary.ap_small), points(summary.ap_medium), points(summary.ap_large)]
    cells.append(points(summary.ar100))
    return cells


def _cost_table(comparison: Comparison) -> list[str]:
    """AP lost to each error type: of the reference, and the change of the other models."""
    reference = comparison.reference
    first = reference.score.mask_costs
    body = [[reference.name]]
    for kind in KINDS:
        body[0].append(points(first[kind].ap))
    for row in comparison.candidates:
        cells = [row.name]
        for kind in KINDS:
            cells.append(signed_loss(row.score.mask_costs[kind].ap - first[kind].ap))
        body.append(cells)
    header = ["model", *(KIND_WORDS[kind] for kind in KINDS)]
    return _table(header, body, text_columns=1)


def _pair_table(comparison: Comparison) -> list[str]:
    header = ["model", "found", "lost", "gained", "false positives", "Δ box IoU", "Δ mask IoU", "Δ score"]
    body = []
    for row in comparison.candidates:
        if row.score.pairing is None:
            continue
        total = row.score.pairing.total
        cells = [row.name, f"{total.found} of {total.objects}", f"{total.lost}", f"{total.gained}"]
        cells.append(signed_count(total.extra))
        cells += [signed_points(total.box_iou), signed_points(total.mask_iou), signed_points(total.score)]
        body.append(cells)
    return _table(header, body, text_columns=1)


def _resource_table(comparison: Comparison) -> list[str]:
    stages = ("preprocess", "inference", "postprocess", "total")
    header = ["model", *(f"{stage}, ms" for stage in stages), "90 %", "GMAC", "M weights", "memory, MB"]
    body = []
    for row in comparison.rows:
        cells = [row.name]
        for stage in stages:
            cells.append(f"{row.latency[stage].p50:.1f}" if stage in row.latency else NONE)
        cells.append(f"{row.latency['total'].p90:.1f}")
        cells += [giga(row.macs), millions(row.parameters)]
        cells.append(f"{row.memory.peak / 1e6:.0f}" if row.memory else NONE)
        body.append(cells)
    return _table(header, body, text_columns=1)


def _layer_table(comparison: Comparison) -> list[str]:
    rows = [row for row in comparison.rows if row.layers]
    parts: dict[str, None] = {}  # a dict, because it keeps the order of first occurrence
    for row in rows:
        parts.update(dict.fromkeys(row.layers))
    body = []
    for part in parts:
        cells = [part]
        for row in rows:
            integer, floating = row.layers.get(part, (0, 0))
            cells.append(f"{integer} + {floating}")
        body.append(cells)
    return _table(["part", *(row.name for row in rows)], body, text_columns=1)


def _provenance(comparison: Comparison) -> list[str]:
    lines = []
    for row in comparison.rows:
        lines.append(f"- {row.name}: sha256 `{row.sha256}`; {describe_run(row)}")
        calibration = row.card.get("calibration", {})
        manifest = calibration.get("manifest_sha256")
        if manifest:
            lines.append(f"  calibrated on {calibration.get('images', '?')} images, manifest `{manifest}`")
    for data in comparison.data_sets:
        lines.append(f"- {data.label}: sha256 `{data.sha256}`")
    packages = ", ".join(f"{name} {version}" for name, version in comparison.packages.items())
    lines.append(f"- measured {comparison.created} with {packages}")
    return lines


def _table(header: Sequence[str], body: Sequence[Sequence[str]], *, text_columns: int) -> list[str]:
    rows = tuple(tuple(cells) for cells in body)
    return Table(tuple(header), rows, text_columns).markdown()

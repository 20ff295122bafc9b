"""Base, pruned, INT8 and both: the effect of each compression step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_mrcnn.report.rows import Comparison, ReportRow


@dataclass(frozen=True, kw_only=True)
class Variant:
    """All models with the same compression steps."""

    name: str
    """As in `ReportRow.variant`."""
    parameters: int
    macs: int | None
    """Multiply-accumulates of one image; None if unknown."""
    size_mb: tuple[float, ...]
    """Size in MB of each model's file, as in the next two."""
    box_ap: tuple[float, ...]
    mask_ap: tuple[float, ...]
    worst_drop: float | None
    """Largest drop in box or mask AP against the reference; None for the reference alone."""
    latency_ms: dict[str, float]
    """Runtime -> median time from frame to detections, of the fastest model that was timed with the others."""


def group_variants(comparison: Comparison) -> list[Variant]:
    """One variant per combination of steps, in the order of the models."""
    groups: dict[str, list[ReportRow]] = {}
    for row in comparison.rows:
        groups.setdefault(row.variant, []).append(row)
    return [_summarize(name, rows, comparison) for name, rows in groups.items()]


def _summarize(name: str, rows: Sequence[ReportRow], comparison: Comparison) -> Variant:
    drops = []
    latency: dict[str, float] = {}
    for row in rows:
        for drop in (row.score.box_drop, row.score.mask_drop):
            if drop is not None:
                drops.append(drop.value)
        if comparison.speed_up(row) is not None:
            latency[row.target] = min(row.latency_ms, latency.get(row.target, math.inf))
    known_macs = [row.macs for row in rows if row.macs]
    return Variant(
        name=name,
        parameters=rows[0].parameters,
        macs=known_macs[0] if known_macs else None,
        size_mb=tuple(row.size_bytes / 1e6 for row in rows),
        box_ap=tuple(row.score.box.ap for row in rows),
        mask_ap=tuple(row.score.mask.ap for row in rows),
        worst_drop=max(drops, default=None),
        latency_ms=latency,
    )

"""Warning about the cost of exporting a heavy model, and advice to reduce it."""

from __future__ import annotations

from edge_mrcnn.export.cost import measure_cost
from edge_mrcnn.model.checkpoint import Checkpoint

HEAVY_MACS = 20_000_000_000
"""Multiply-accumulates per image from which a model is heavy; the light presets have 1 to 8 G."""
FEWER_PROPOSALS, FEWER_DETECTIONS = 100, 20
"""Suggested settings: half the proposals per detection of `base`, and as many detections as the light presets."""
COST = "0.9 box and 0.3 mask AP in pictures of crowds"
"""Cost in AP for the people model, compared with 1000 proposals and 100 detections, by
benchmarks/fewer_proposals.py."""
HEAVY_TRIALS = 4
"""Drawings from which the golden images of a heavy model are chosen: torch takes seconds for each."""
WORTH_IT = 0.8
"""Maximum share of the work that must remain for a suggestion."""


def describe_effort(checkpoint: Checkpoint) -> list[str]:
    """Lines about a heavy model; none for a light one.

    Args:
        checkpoint: The model with its export settings.
    """
    config = checkpoint.config
    work = measure_cost(checkpoint.model, config).macs
    if work < HEAVY_MACS:
        return []
    height, width = config.image_size_hw
    lines = [
        f"this model is heavy: {work / 1e9:.0f} GMAC per image of {width}x{height} with {config.proposals} proposals "
        f"and {config.max_detections} detections; expect minutes and several GB of memory per target, and more for "
        "INT8, "
        "which runs every calibration image"
    ]
    fewer = config.updated(
        proposals=min(config.proposals, FEWER_PROPOSALS),
        max_detections=min(config.max_detections, FEWER_DETECTIONS),
    )
    left = measure_cost(checkpoint.model, fewer).macs
    if left <= WORTH_IT * work:
        lines.append(
            f"--proposals {fewer.proposals} --max-det {fewer.max_detections} would reduce this to "
            f"{left / 1e9:.0f} GMAC. It cost the people model {COST}; to see the cost on your images, use "
            "`edge-mrcnn report`"
        )
    return lines

"""What a heavy model asks of the machine that writes it, said before the work, and what makes it lighter."""

from __future__ import annotations

from edge_mrcnn.export.cost import measure_cost
from edge_mrcnn.model.checkpoint import Checkpoint

HEAVY_MACS = 20_000_000_000
"""Multiply-accumulates of a picture from which on a model is heavy; the light presets have 1 to 8 G."""
FEWER_PROPOSALS, FEWER_DETECTIONS = 100, 20
"""What is suggested: half of what `base` has per detection, and as many objects as the light presets find."""
COST = "0.9 box and 0.3 mask AP in pictures of crowds"
"""What that cost the people model beside 1000 proposals and 100 detections, by benchmarks/fewer_proposals.py."""
HEAVY_TRIALS = 4
"""Drawings from which the golden pictures of a heavy model are chosen: torch takes seconds for each."""
WORTH_IT = 0.8
"""Share of the work that a suggestion leaves at most."""


def describe_effort(checkpoint: Checkpoint) -> list[str]:
    """Lines about a heavy model; none for a light one.

    Args:
        checkpoint: With the settings that it is exported with.
    """
    config = checkpoint.config
    work = measure_cost(checkpoint.model, config).macs
    if work < HEAVY_MACS:
        return []
    height, width = config.image_size_hw
    lines = [
        f"a heavy model: {work / 1e9:.0f} GMAC a picture of {width}x{height} with {config.proposals} proposals and "
        f"{config.max_detections} detections; expect minutes and some GB of memory for each target, and more for INT8, "
        "which runs every calibration picture"
    ]
    fewer = config.updated(
        proposals=min(config.proposals, FEWER_PROPOSALS),
        max_detections=min(config.max_detections, FEWER_DETECTIONS),
    )
    left = measure_cost(checkpoint.model, fewer).macs
    if left <= WORTH_IT * work:
        lines.append(
            f"--proposals {fewer.proposals} --max-det {fewer.max_detections} would leave {left / 1e9:.0f} GMAC, and "
            f"shorten all of it likewise. It cost the people model that comes along {COST}; what it costs on your "
            "pictures, `edge-mrcnn report` says"
        )
    return lines

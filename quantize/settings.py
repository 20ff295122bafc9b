"""Settings of a quantization, the same for every target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """How an artefact is turned into INT8."""

    images: int = 128
    """Calibration images at most."""
    seed: int = 0
    """Which of them, when the set has more."""
    keep_float: tuple[str, ...] = ()
    """Further parts of the net that stay in float: "backbone", "fpn", "rpn", "box_head" or "mask_head"."""

"""Settings of a quantization, the same for every target."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.errors import UsageError

PARTS = ("backbone", "fpn", "rpn", "box_head", "mask_head")
"""Parts of the net that are quantized."""


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """How an artefact is turned into INT8."""

    images: int = 128
    """Calibration images at most."""
    seed: int = 0
    """Which of them, when the set has more."""
    keep_float: tuple[str, ...] = ()
    """What else stays in float: parts of the net ("backbone") or blocks of them ("backbone.stage2.0")."""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UsageError(f"calibration needs at least one image, got {self.images}")
        if unknown := {name.split(".")[0] for name in self.keep_float} - set(PARTS):
            raise UsageError(f"no part {', '.join(sorted(unknown))} to keep in float; there are {', '.join(PARTS)}")

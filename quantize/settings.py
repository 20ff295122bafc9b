"""Settings of a quantization, shared by all targets."""

from __future__ import annotations

from dataclasses import dataclass

from quantize.parts import QUANTIZED
from runtimes.board import Board, read_board
from runtimes.errors import UsageError

REDUCE_RANGE = ("auto", "on", "off")
"""Whether weights use only 7 bits."""
EFFORTS = ("auto", "full", "quick")
"""Effort of a calibration."""
HEAVY_PARAMETERS = 25_000_000
"""Number of weights from which a model is heavy; a ResNet-50 Mask R-CNN has 44 M, the light presets 1 to 5 M."""


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """Settings for making an INT8 file."""

    images: int = 128
    """Maximum number of calibration images."""
    seed: int = 0
    """Random seed of their choice, if the set has more."""
    keep_float: tuple[str, ...] = ()
    """Parts of the model to keep in float ("backbone"), or blocks of them ("backbone.stage2.0")."""
    reduce_range: str = "auto"
    """"on": weights use 7 of their 8 bits, so that the 16-bit sums of an x86 processor without VNNI cannot overflow;
    "off": all 8; "auto": as the processor of this machine needs."""
    effort: str = "auto"
    """Effort of OpenVINO's calibration. "full": ranges from histograms of all values, and biases corrected layer by
    layer, each time by running the earlier layers in INT8; "quick": ranges from the smallest and largest value, and
    biases corrected from the means of one run; "auto": quick for a model with `HEAVY_PARAMETERS` or more."""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UsageError(f"calibration needs at least one image, got {self.images}")
        if self.reduce_range not in REDUCE_RANGE:
            raise UsageError(f"reduce range {self.reduce_range}: expected {', '.join(REDUCE_RANGE)}")
        if self.effort not in EFFORTS:
            raise UsageError(f"calibration effort {self.effort}: expected {', '.join(EFFORTS)}")
        if unknown := {name.split(".")[0] for name in self.keep_float} - set(QUANTIZED):
            raise UsageError(f"no part {', '.join(sorted(unknown))} to keep in float; there are {', '.join(QUANTIZED)}")

    @property
    def weight_bits(self) -> int:
        """Bits of weights in runtimes that could overflow; the others always use 8."""
        is_reduced = adds_in_16_bits(read_board()) if self.reduce_range == "auto" else self.reduce_range == "on"
        return 7 if is_reduced else 8

    def is_quick(self, parameters: int) -> bool:
        """Whether a model with this number of weights is calibrated quickly."""
        return parameters >= HEAVY_PARAMETERS if self.effort == "auto" else self.effort == "quick"


def adds_in_16_bits(board: Board) -> bool:
    """Whether a processor multiplies bytes with instructions that saturate: x86 without VNNI (VPMADDUBSW)."""
    return not board.is_arm and "vnni" not in board.features

"""Settings of a quantization, the same for every target."""

from __future__ import annotations

from dataclasses import dataclass

from quantize.parts import QUANTIZED
from runtimes.board import Board, read_board
from runtimes.errors import UsageError

REDUCE_RANGE = ("auto", "on", "off")
"""Whether weights keep to 7 bits."""
EFFORTS = ("auto", "full", "quick")
"""How long a calibration may take."""
HEAVY_PARAMETERS = 25_000_000
"""Weights from which on a model is heavy; a ResNet-50 Mask R-CNN has 44 M, the light presets 1 to 5 M."""


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """How an artefact is turned into INT8."""

    images: int = 128
    """Calibration images at most."""
    seed: int = 0
    """Which of them, when the set has more."""
    keep_float: tuple[str, ...] = ()
    """What else stays in float: parts of the net ("backbone") or blocks of them ("backbone.stage2.0")."""
    reduce_range: str = "auto"
    """ "on": weights take 7 of their 8 bits, so that the 16-bit sums of an x86 processor without VNNI cannot overflow;
    "off": all 8; "auto": whichever suits the processor that quantizes."""
    effort: str = "auto"
    """What OpenVINO's calibration may take. "full": ranges from histograms of all values, and biases corrected layer by
    layer, each time by running the layers before it in INT8; "quick": ranges from the smallest and largest value, and
    biases corrected from the means of one run; "auto": quick for a model of `HEAVY_PARAMETERS` or more."""

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
        """Bits that weights take in the runtimes that would overflow; the others take 8 in any case."""
        is_reduced = adds_in_16_bits(read_board()) if self.reduce_range == "auto" else self.reduce_range == "on"
        return 7 if is_reduced else 8

    def is_quick(self, parameters: int) -> bool:
        """Whether a model of so many weights is calibrated quickly."""
        return parameters >= HEAVY_PARAMETERS if self.effort == "auto" else self.effort == "quick"


def adds_in_16_bits(board: Board) -> bool:
    """Whether a processor multiplies bytes with instructions that saturate: x86 without VNNI (VPMADDUBSW)."""
    return not board.is_arm and "vnni" not in board.features

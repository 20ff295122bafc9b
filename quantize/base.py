"""Base class of all targets: measure the ranges of an FP32 model file once, then write INT8 files from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.calibration import CalibrationSet
from quantize.parts import ALWAYS_FLOAT, expand_blocks
from quantize.settings import QuantizeConfig
from quantize.stem import PICTURES, round_weights
from runtimes.model_card import ModelCard


class Quantizer(ABC):
    """An FP32 model file with the ranges of its tensors."""

    def __init__(self, card: ModelCard, calibration: CalibrationSet, config: QuantizeConfig) -> None:
        self.card = card
        self.calibration = calibration
        self.config = config

    @property
    @abstractmethod
    def blocks(self) -> tuple[str, ...]:
        """Blocks that can be kept in float, in the order of the graph: "backbone.stage2.0", "mask_head.1"."""

    @abstractmethod
    def write(self, output: Path, keep_float: Collection[str], *, is_draft: bool = False) -> None:
        """Write an INT8 file.

        Args:
            output: Output file.
            keep_float: Those of `blocks` to keep in float.
            is_draft: Skip slow steps with little effect, such as bias correction.
        """

    @property
    def asked_float(self) -> frozenset[str]:
        """The blocks to keep in float, from the settings.

        Raises:
            UsageError: If there is no such block.
        """
        return expand_blocks(self.config.keep_float, self.blocks)

    def round_stem(self, weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weights of a first convolution of image bytes, (N, 3, h, w), rounded to the INT8 grid.

        7-bit weights are not rounded here, because each tool has its own grid for them.
        """
        if self.config.weight_bits < 8:
            return weights
        pictures = min(PICTURES, self.config.images)
        return round_weights(weights, self.calibration.tensors(self.card, pictures, self.config.seed))

    def save(self, output: Path, keep_float: Iterable[str] = ()) -> None:
        """Write an INT8 file with the blocks of the settings, and these blocks, in float."""
        self.write(output, self.asked_float | frozenset(keep_float))


def provenance(
    calibration: CalibrationSet,
    config: QuantizeConfig,
    keep_float: Collection[str],
    also_float: dict[str, str] | None = None,
    *,
    weight_bits: int = 8,
) -> dict[str, Any]:
    """The record of a quantization for the model card.

    Args:
        calibration: The calibration images.
        config: Settings of the quantization.
        keep_float: Blocks that were kept in float.
        also_float: Layers kept in float on this target besides `ALWAYS_FLOAT`, and the reason.
        weight_bits: 7 if sums of 16 bits must not overflow.
    """
    asked = dict.fromkeys(config.keep_float, "kept in float on request")
    wanted = expand_blocks(config.keep_float, keep_float)
    found = {block: "its rounding costs the most accuracy" for block in keep_float if block not in wanted}
    return {
        "manifest_sha256": calibration.manifest_sha256,
        "images": len(calibration.choose(config.images, config.seed)),
        "weight_bits": weight_bits,
        "float": {**ALWAYS_FLOAT, **(also_float or {}), **asked, **found},
    }

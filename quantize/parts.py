"""Which part of the net a node belongs to, by its name, and what stays in float for which reason.

The exporter names nodes after modules: "pyramid.body.net.stage2.0.branch1.0/Conv_7".
"""

from __future__ import annotations

from typing import Any

from quantize.calibration import CalibrationSet
from quantize.settings import QuantizeConfig

PARTS = {  # part -> prefixes of the modules in it
    "backbone": ("pyramid.body",),
    "fpn": ("pyramid.fpn",),
    "rpn": ("rpn_head.conv",),
    "box_head": ("box_head",),
    "mask_head": ("mask_head", "mask_predictor.conv5_mask"),
}
"""Learned layers that are quantized."""

ALWAYS_FLOAT = {
    "first convolution": "few channels of unequal range, whose rounding all later layers see",
    "rpn predictors": "objectness and deltas decide which boxes exist; they are few MACs",
    "box predictor": "class scores and box deltas; they are few MACs",
    "mask logits": "own-class products of few MACs; carelessly quantized, every mask is 0.5",
    "box arithmetic": "anchors, decoding, NMS and RoIAlign need sub-pixel steps",
}
"""What stays in float on every target, and why."""


def part_of(name: str) -> str | None:
    """The part that a node belongs to, or None for what is never quantized."""
    for part, prefixes in PARTS.items():
        if name.startswith(prefixes):
            return part
    return None


def is_quantized(name: str, keep_float: tuple[str, ...]) -> bool:
    """Whether a node of this name is to be quantized."""
    part = part_of(name)
    return part is not None and part not in keep_float


def provenance(
    calibration: CalibrationSet, config: QuantizeConfig, also_float: dict[str, str] | None = None
) -> dict[str, Any]:
    """What the model card says of a quantization.

    Args:
        calibration: The pictures.
        config: How it was done.
        also_float: What stays in float on this target beside `ALWAYS_FLOAT`, and why.
    """
    asked = dict.fromkeys(config.keep_float, "kept in float on request")
    return {
        "manifest_sha256": calibration.manifest_sha256,
        "images": len(calibration.choose(config.images, config.seed)),
        "float": {**ALWAYS_FLOAT, **(also_float or {}), **asked},
    }

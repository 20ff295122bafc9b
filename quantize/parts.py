"""Which part of the net a node belongs to, by its name, and what stays in float for which reason.

The exporter names nodes after modules: "pyramid.body.net.stage2.0.branch1.0/Conv_7".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from quantize.calibration import CalibrationSet
from quantize.settings import QuantizeConfig
from runtimes.errors import UsageError

PARTS = {  # part -> prefixes of the modules in it
    "backbone": ("pyramid.body",),
    "fpn": ("pyramid.fpn",),
    "rpn": ("rpn_head.conv",),
    "box_head": ("box_head",),
    "mask_head": ("mask_head", "mask_predictor.conv5_mask"),
}
"""Learned layers that are quantized."""

ALWAYS_FLOAT = {
    "rpn predictors": "objectness and deltas decide which boxes exist; they are few MACs",
    "box predictor": "class scores and box deltas; they are few MACs",
    "mask logits": "own-class products of few MACs; carelessly quantized, every mask is 0.5",
    "box arithmetic": "anchors, decoding, NMS and RoIAlign need sub-pixel steps",
}
"""What stays in float on every target, and why."""

FLOAT_STEM = {"first convolution": "few channels of unequal range, whose rounding all later layers see"}
"""What stays in float too, where the picture's bytes are not the integers that it multiplies, and why."""

PIXEL = 1 / 255
"""The factor of a picture's bytes in a model that normalises by nothing else: its first convolution then reads integers
of this scale and of zero point 0, which no rounding changes."""


def part_of(name: str) -> str | None:
    """The part that a node belongs to, or None for what is never quantized."""
    for part, prefixes in PARTS.items():
        if name.startswith(prefixes):
            return part
    return None


def block_of(name: str) -> str | None:
    """The block that a node belongs to: a part's modules up to the first number, such as "backbone.stage2.0"."""
    part = part_of(name)
    if part is None:
        return None
    prefix = next(prefix for prefix in PARTS[part] if name.startswith(prefix))
    modules = name.split("/")[0].removeprefix(prefix).strip(".").removeprefix("net.").split(".")
    inside = up_to_number([module for module in modules if module] or [prefix.split(".")[-1]])
    return ".".join([part, *inside]) if inside != [part] else part


def up_to_number(modules: list[str]) -> list[str]:
    """The names of nested modules up to the first that is a number, or all of them."""
    end = next((index for index, module in enumerate(modules) if module.isdecimal()), len(modules))
    return modules[: end + 1]


def expand_blocks(asked: Iterable[str], blocks: Collection[str]) -> frozenset[str]:
    """Parts and blocks as blocks.

    Args:
        asked: "backbone" for all its blocks, or "backbone.stage2.0" for one.
        blocks: The blocks that a model has.

    Raises:
        UsageError: If there is no such block.
    """
    found: set[str] = set()
    for name in asked:
        members = [block for block in blocks if block == name or block.startswith(f"{name}.")]
        if not members:
            raise UsageError(f"no block {name} to keep in float; there are {', '.join(blocks)}")
        found.update(members)
    return frozenset(found)


def is_quantized(name: str, keep_float: Collection[str]) -> bool:
    """Whether a node of this name is to be quantized when these blocks stay in float."""
    block = block_of(name)
    return block is not None and block not in keep_float


def provenance(
    calibration: CalibrationSet,
    config: QuantizeConfig,
    keep_float: Collection[str],
    also_float: dict[str, str] | None = None,
    *,
    weight_bits: int = 8,
) -> dict[str, Any]:
    """What the model card says of a quantization.

    Args:
        calibration: The pictures.
        config: How it was done.
        keep_float: Blocks that were kept in float.
        also_float: What stays in float on this target beside `ALWAYS_FLOAT`, and why.
        weight_bits: 7 where sums of 16 bits must not overflow.
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

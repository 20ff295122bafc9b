"""The parts of the model: their names, their modules, and why some of them stay in float.

This is the only place with this information. ONNX and OpenVINO name their nodes after modules, with all containers:
"pyramid.body.net.stage2.0.branch1.0/Conv_7". TFLite names tensors after called modules, with their classes, and
`module_path` converts these names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from runtimes.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class NetPart:
    """Modules that are treated alike."""

    name: str
    """Name in options, or in the card's reason for float."""
    of: str
    """Part under which `inspect` counts it."""
    modules: tuple[str, ...]
    """Prefixes of the names of its modules in the deploy graph."""
    why_float: str = ""
    """Why it stays in float on every target; empty if it becomes INT8."""


_LAST_LAYERS = "only few MACs"
_SUB_PIXEL = "anchors, decoding, NMS and RoIAlign need sub-pixel steps"

PARTS = (
    NetPart(name="backbone", of="backbone", modules=("pyramid.body",)),
    NetPart(name="fpn", of="fpn", modules=("pyramid.fpn",)),
    NetPart(name="rpn", of="rpn", modules=("rpn_head.conv",)),
    NetPart(
        name="rpn predictors",
        of="rpn",
        modules=("rpn_head",),
        why_float=f"objectness and deltas decide which boxes exist; {_LAST_LAYERS}",
    ),
    NetPart(name="box_head", of="box_head", modules=("box_head",)),
    NetPart(
        name="box predictor",
        of="box_head",
        modules=("box_predictor", "cls_score", "bbox_pred"),
        why_float=f"class scores and box deltas; {_LAST_LAYERS}",
    ),
    NetPart(name="mask_head", of="mask_head", modules=("mask_head", "mask_predictor.conv5_mask", "conv5_mask")),
    NetPart(
        name="mask logits",
        of="mask_head",
        modules=("mask_predictor",),
        why_float="few MACs, and INT8 rounding could turn every mask into 0.5",
    ),
    NetPart(name="box arithmetic", of="roi_align", modules=("box_pool", "mask_pool"), why_float=_SUB_PIXEL),
    NetPart(
        name="box arithmetic",
        of="decoding",
        modules=("proposal_coder", "detection_coder", "deploy"),
        why_float=_SUB_PIXEL,
    ),
)
"""In the order of the model; a module belongs to the first part that matches."""

QUANTIZED = tuple(part.name for part in PARTS if not part.why_float)
"""Names of the parts that become INT8."""

ALWAYS_FLOAT = {part.name: part.why_float for part in PARTS if part.why_float}
"""Layers kept in float on every target, and the reason."""

FLOAT_STEM = {"first convolution": "few channels of unequal range, whose rounding all later layers see"}
"""Layers that also stay in float if the image's bytes are not their integer inputs, and the reason."""

NO_KERNEL = {
    "onnx": {"ConvTranspose": "ONNX Runtime has no INT8 kernel for it on CPUs"},
    "openvino": {},
    "tflite": {
        "LEAKY_RELU": "ai-edge-quantizer has no INT8 form of it",
        "HARD_SWISH": "XNNPACK has no INT8 kernel for it",
        "DIV": "LiteRT has no INT8 kernel for it",
    },
}
"""Format -> operators that always stay in float, and the reason."""

PIXEL = 1 / 255
"""Factor on the image's bytes in a model without other normalisation: its first convolution then reads integers of this
scale with zero point 0, without rounding."""


def find_part(name: str) -> NetPart | None:
    """The part of a node or module, by its name; None if the name does not tell."""
    for part in PARTS:
        if name.startswith(part.modules):
            return part
    return None


def part_of(name: str) -> str | None:
    """The name of the part of a node, or None for nodes that are never quantized."""
    part = find_part(name)
    return part.name if part is not None and not part.why_float else None


def block_of(name: str) -> str | None:
    """The block of a node: a part's modules up to the first number, such as "backbone.stage2.0"."""
    part = find_part(name)
    if part is None or part.why_float:
        return None
    prefix = next(module for module in part.modules if name.startswith(module))
    inside = name.split("/")[0].removeprefix(prefix).strip(".").removeprefix("net.")
    modules = [module for module in inside.split(".") if module]
    block = up_to_number(modules or [prefix.split(".")[-1]])
    return part.name if block == [part.name] else ".".join([part.name, *block])


def module_path(tensor_name: str) -> str:
    """The module of a TFLite tensor, "deploy" for tensors outside all modules.

    "x.DetectSignature/y.PyramidBackbone_pyramid/z.StagedBackbone_body;7" is "pyramid.body". A layer with a fused
    activation has the names of both; the first that is a module's is used. The pyramid's last layers have the names of
    the outputs.
    """
    if level := re.search(r"(?:^|;|_)detect_p(\d+)_output", tensor_name):
        return f"pyramid.fpn.layer_blocks.{level[1]}"
    for name in tensor_name.split(";"):
        _, *scopes = name.split("/")
        path = ".".join(_attribute_of(scope) for scope in scopes)
        if path and path != "relu":
            return path
    return "deploy"


def _attribute_of(scope: str) -> str:
    """ "torch.nn.modules.container.Sequential_stage2" is the module `stage2`."""
    return scope.rsplit(".", 1)[-1].split("_", 1)[-1]


def tensor_pattern(module: str) -> str:
    """A regular expression for the tensors of a module in TFLite: "rpn_head.conv" as "_rpn_head/..._conv/".

    Containers that are not called, such as `net` and `features`, may be missing.
    """
    steps = module.split(".")
    top, *between = steps[:-1] or [""]
    begin = rf"_{top}/" if top else ""
    containers = "".join(rf"(?:[^/;]*_{step}/)?" for step in between)
    own = rf"[^/;]*_{steps[-1]}[/;]" if top else rf"_{steps[-1]}[/;]"
    return begin + containers + own


TENSORS = "|".join(
    [tensor_pattern(module) for part in PARTS if not part.why_float for module in part.modules]
    + [r"detect_p\d_output"]  # the pyramid's last convolutions have the names of the outputs
)
"""A regular expression for the TFLite tensors of all parts that become INT8."""


def up_to_number(modules: list[str]) -> list[str]:
    """The names of nested modules up to the first number, or all of them."""
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
    """Whether a node of this name is quantized if these blocks stay in float."""
    block = block_of(name)
    return block is not None and block not in keep_float

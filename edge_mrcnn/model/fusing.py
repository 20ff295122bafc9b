"""Re-parameterisation: parts with several branches in training become one layer for inference.

A part supports it with a method: our `fuse()`, which returns its replacement, or timm's `reparameterize()`, which
changes the part in place. Nothing outside this module depends on which parts have one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from timm.utils.model import reparameterize_model
from torch import nn

METHODS = ("fuse", "reparameterize", "switch_to_deploy")
"""Methods for fusing; timm looks for the same ones, in this order."""


def fused(model: nn.Module) -> nn.Module:
    """A copy in eval mode that computes the same function, with all such parts fused."""
    model = copy.deepcopy(model).eval()
    for part in _fusable_parts(model):
        _state_widths(part)
    return reparameterize_model(model, inplace=True)


def find_origins(model: nn.Module, after: nn.Module) -> dict[str, str]:
    """The layer of a model that each convolution of its fused form corresponds to.

    The branches of a part have the same widths, so one represents all: the first with the kernel of the fused layer.

    Args:
        model: The unfused model.
        after: Result of `fused`.

    Returns:
        Name of each convolution that only the fused form has -> name of one in `model`.
    """
    before = dict(model.named_modules())
    origins: dict[str, str] = {}
    for name, layer in after.named_modules():
        is_new = not isinstance(before.get(name), nn.Conv2d)
        if not (is_new and isinstance(layer, nn.Conv2d)):
            continue
        part = _nearest_part(name, before)
        branch = _find_branch(before[part], layer)
        if branch is not None:
            origins[name] = f"{part}.{branch}"
    return origins


def _fusable_parts(model: nn.Module) -> Iterator[nn.Module]:
    for part in model.modules():
        if any(hasattr(part, method) for method in METHODS):
            yield part


def _nearest_part(name: str, modules: dict[str, nn.Module]) -> str:
    """The innermost module around a new layer that existed before."""
    while name not in modules:
        name = name.rpartition(".")[0]
    return name


def _find_branch(part: nn.Module, layer: nn.Conv2d) -> str | None:
    """The name, inside a part, of the first branch with the shape of the fused layer."""
    name: str
    for name, branch in part.named_modules():
        if isinstance(branch, nn.Conv2d) and _is_alike(branch, layer):
            return name
    return None


def _is_alike(branch: nn.Conv2d, layer: nn.Conv2d) -> bool:
    same_widths = branch.weight.shape == layer.weight.shape
    return same_widths and branch.stride == layer.stride


def _state_widths(part: nn.Module) -> None:
    """Update the widths that timm's parts store to those of their layers, which pruning narrows."""
    convolutions = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)]
    if convolutions:
        main = max(convolutions, key=_kernel_area)  # the others are 1x1 branches, and gates
        inputs, outputs, groups = main.in_channels, main.out_channels, main.groups
    elif norms:  # a branch with only a norm corresponds to a depthwise convolution
        inputs = outputs = groups = norms[0].num_features
    else:
        return
    widths = {"in_chs": inputs, "out_chs": outputs, "dim": inputs, "dim_out": outputs, "groups": groups}
    for attribute, width in widths.items():
        if isinstance(getattr(part, attribute, None), int):
            setattr(part, attribute, width)


def _kernel_area(layer: nn.Conv2d) -> int:
    height, width = layer.kernel_size
    return height * width

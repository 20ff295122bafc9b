"""Re-parameterisation: parts that are several branches while they train and one layer when they run.

A part takes part by a method: our `fuse()`, which gives its replacement, or timm's `reparameterize()`, which changes
the part in place. Nothing outside this module knows which parts have one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from timm.utils.model import reparameterize_model
from torch import nn

METHODS = ("fuse", "reparameterize", "switch_to_deploy")
"""Methods by which a part says that it can be fused; timm looks for the same ones, in this order."""


def fused(model: nn.Module) -> nn.Module:
    """A copy in eval mode that computes the same function, with every part fused that can be."""
    model = copy.deepcopy(model).eval()
    for part in _fusable_parts(model):
        _state_widths(part)
    return reparameterize_model(model, inplace=True)


def find_origins(model: nn.Module, after: nn.Module) -> dict[str, str]:
    """Which layer of a model each convolution of its fused form stands for.

    The branches of a part have the same widths, so one of them speaks for all: the first with the kernel of the fused
    layer.

    Args:
        model: A model as it trains.
        after: What `fused` made of it.

    Returns:
        Name of a convolution that only the fused form has, to the name of one in `model`.
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
    """The innermost module around a new layer that was there before."""
    while name not in modules:
        name = name.rpartition(".")[0]
    return name


def _find_branch(part: nn.Module, layer: nn.Conv2d) -> str | None:
    """The name inside a part of the first branch that has the shape of the layer that the part becomes."""
    name: str
    for name, branch in part.named_modules():
        if isinstance(branch, nn.Conv2d) and _is_alike(branch, layer):
            return name
    return None


def _is_alike(branch: nn.Conv2d, layer: nn.Conv2d) -> bool:
    same_widths = branch.weight.shape == layer.weight.shape
    return same_widths and branch.stride == layer.stride


def _state_widths(part: nn.Module) -> None:
    """Bring what timm's parts note of their own widths in line with their layers, which pruning narrows."""
    convolutions = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in part.modules() if isinstance(layer, nn.BatchNorm2d)]
    if convolutions:
        main = max(convolutions, key=_kernel_area)  # the others are 1x1 branches, and gates
        inputs, outputs, groups = main.in_channels, main.out_channels, main.groups
    elif norms:  # a branch of nothing but a norm stands for a depthwise convolution
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

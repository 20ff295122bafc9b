"""Cost of a model at other widths: a sum over layers, each a function of its two widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from edge_mrcnn.config import ModelConfig
from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.model.fusing import find_origins, fused
from edge_mrcnn.prune.groups import ChannelGroup, blank_image, is_depthwise
from edge_mrcnn.prune.surrogate import Surrogate

LEARNED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
"""Layers whose cost depends on their widths."""

Size = tuple[int, int, int]
"""Number, height and width of a layer's input regions; height and width are 1 after flattening."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer of the deploy graph, for one image with the maximum number of proposals and
    detections."""

    kind: str
    """ "conv", "depthwise", "deconv" or "linear"."""
    inputs: int
    """Number of channels, or features."""
    outputs: int
    kernel: int
    """Longer side of its kernel, in pixels."""
    stride: int
    positions: int
    """Number of applications of its kernel."""
    calls: tuple[Size, ...]
    """Sizes of its inputs; a layer shared by pyramid levels has several."""
    area: int = 1
    """Number of pixels of its kernel, which may be non-square."""
    groups: int = 1
    """Number of groups of a convolution that is not depthwise."""

    def macs(self, outputs: int, inputs: int) -> int:
        """Multiply-accumulates at these widths."""
        per_output = 1 if self.kind == "depthwise" else inputs // self.groups
        return self.positions * self.area * outputs * per_output


class CostModel(Protocol):
    """Cost of each layer at other widths."""

    def of_layer(self, name: str, outputs: int, inputs: int) -> float:
        """Cost of one layer."""

    @property
    def base(self) -> float:
        """Cost of everything without a width."""


@dataclass(frozen=True)
class MacCost:
    """Multiply-accumulates; their sum equals `export.cost.measure_cost`."""

    layers: dict[str, Layer]
    base: float = 0.0

    def of_layer(self, name: str, outputs: int, inputs: int) -> float:
        """Multiply-accumulates of one layer."""
        return self.layers[name].macs(outputs, inputs)


@dataclass(frozen=True)
class ChannelCost:
    """The number of channels; those of each group count once."""

    counted: frozenset[str]
    """One layer of each group, whose outputs are its channels."""
    base: float = 0.0

    @classmethod
    def of(cls, groups: Sequence[ChannelGroup], layers: dict[str, Layer]) -> ChannelCost:
        """Count the channels of these groups."""
        counted = set()
        for group in groups:
            first = next(name for name in group.writers if name in layers)
            counted.add(first)
        return cls(frozenset(counted))

    def of_layer(self, name: str, outputs: int, inputs: int) -> float:
        """Channels of a group, if this layer represents one."""
        return float(outputs) if name in self.counted else 0.0


class Widths:
    """Widths of all layers while groups of a model are narrowed in the search."""

    def __init__(self, layers: dict[str, Layer], groups: Sequence[ChannelGroup]) -> None:
        self.outputs = {name: layer.outputs for name, layer in layers.items()}
        self.inputs = {name: layer.inputs for name, layer in layers.items()}
        self._shares = {group.name: _shares(group, layers) for group in groups}

    def saving(self, group: str, channels: int, cost: CostModel) -> float:
        """Cost that is saved by removing further channels of a group."""
        before, after = [], []
        for name, (out, into) in self._shares[group].items():
            outputs, inputs = self.outputs[name], self.inputs[name]
            before.append(cost.of_layer(name, outputs, inputs))
            after.append(cost.of_layer(name, outputs - channels * out, inputs - channels * into))
        return sum(before) - sum(after)

    def remove(self, group: str, channels: int) -> None:
        """Narrow a group; a negative number reverts it."""
        for name, (out, into) in self._shares[group].items():
            self.outputs[name] -= channels * out
            self.inputs[name] -= channels * into

    def total(self, cost: CostModel) -> float:
        """Cost of the whole model."""
        of_layers = [cost.of_layer(name, outputs, self.inputs[name]) for name, outputs in self.outputs.items()]
        return cost.base + sum(of_layers)


def _shares(group: ChannelGroup, layers: dict[str, Layer]) -> dict[str, tuple[int, int]]:
    """Layer -> its outputs and inputs per channel of the group."""
    shares: dict[str, tuple[int, int]] = {}
    for name in layers:
        out = group.writers[name].per_channel if name in group.writers else 0
        into = group.readers[name].per_channel if name in group.readers else 0
        if out and layers[name].kind == "depthwise":
            into = out
        if out or into:
            shares[name] = out, into
    return shares


def describe_layers(checkpoint: Checkpoint) -> dict[str, Layer]:
    """All layers whose cost depends on their widths, by name, in the order of the forward pass.

    They are those of the fused model. A layer that has several branches in training has the name of one of them.
    """
    deployed = fused(checkpoint.model)
    origins = find_origins(checkpoint.model, deployed)
    layers: dict[str, Layer] = {}
    for name, module in deployed.named_modules():
        if isinstance(module, LEARNED):
            known_as = origins.get(name, name)
            module.register_forward_hook(_recorder(layers, known_as, _repeats(name, checkpoint.config)))
    with torch.no_grad():
        Surrogate(deployed)(blank_image(checkpoint))
    return layers


def _recorder(layers: dict[str, Layer], name: str, repeats: int) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
    """A hook that records each call of a layer."""

    def record(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        sites = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        call = repeats, *(inputs[0].shape[2:] or (1, 1))
        known = layers.get(name) or _describe(module, name)
        positions = known.positions + repeats * sites[0, 0].numel()
        layers[name] = replace(known, positions=positions, calls=(*known.calls, call))

    return record


def _repeats(name: str, config: ModelConfig) -> int:
    """Number of regions of one image that pass through a layer."""
    if name.startswith("roi_heads.box"):
        return config.proposals
    return config.max_detections if name.startswith("roi_heads.mask") else 1


def _describe(module: nn.Module, name: str) -> Layer:
    if isinstance(module, nn.Linear):
        return Layer("linear", module.in_features, module.out_features, 1, 1, 0, ())
    assert isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    kind = _kind_of(module)
    # The deploy graph computes only the row of the object's own class of the mask logits.
    outputs = 1 if name.endswith("mask_fcn_logits") else module.out_channels
    height, width = module.kernel_size
    return Layer(
        kind,
        module.in_channels,
        outputs,
        max(height, width),
        module.stride[0],
        0,
        (),
        area=height * width,
        groups=module.groups if kind == "conv" else 1,
    )


def _kind_of(module: nn.Conv2d | nn.ConvTranspose2d) -> str:
    if isinstance(module, nn.ConvTranspose2d):
        return "deconv"
    return "depthwise" if is_depthwise(module) else "conv"

"""Groups of channels of a Mask R-CNN that can only be removed together.

They are found by torch-pruning's dependency graph (DepGraph, arXiv 2301.12900) on a `Surrogate`: depthwise chains,
squeeze-and-excitation, residual and pyramid sums, the heads, and the flattening after RoIAlign. Only names and indices
are stored, which are valid for every copy of the model.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.prune.surrogate import Surrogate, predictors, shuffled_layers, without_shuffles

KNOWN = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)


@dataclass(frozen=True)
class Links:
    """Features of a layer that belong to channels of a group: pairs (channel, feature)."""

    channels: Tensor
    """(L,) int64."""
    features: Tensor
    """(L,) int64: outputs of a writer, inputs of a reader; a linear layer after flattening has many per channel."""

    def of(self, channels: Tensor) -> Tensor:
        """The features of some channels."""
        return self.features[torch.isin(self.channels, channels)]

    @property
    def per_channel(self) -> int:
        """Number of features per channel."""
        return len(self.channels) // len(self.channels.unique())


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that must be removed from all of these layers together."""

    name: str
    """Name of the first layer that computes them."""
    width: int
    """Number of channels."""
    writers: dict[str, Links]
    """Layers whose outputs they are, including depthwise convolutions and norms between them."""
    readers: dict[str, Links]
    """Layers whose inputs they are."""


@torch.enable_grad()  # the trace follows the graph that autograd records
def find_groups(checkpoint: Checkpoint) -> list[ChannelGroup]:
    """All groups of removable channels, in the order of the forward pass; the model is not changed."""
    model = checkpoint.model.eval()
    names = {module: name for name, module in model.named_modules()}
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.requires_grad_(True)
    found = []
    with warnings.catch_warnings(), without_shuffles():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(Surrogate(model), blank_image(checkpoint))
        fixed = [*predictors(model), *shuffled_layers(model)]
        for traced in graph.get_all_groups(ignored_layers=fixed):
            group = _describe(graph, traced, names)
            if group is not None and group.readers:
                found.append(group)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable[name])
    return found


def blank_image(checkpoint: Checkpoint) -> Tensor:
    """(1, 3, H, W) of zeros."""
    return torch.zeros(1, 3, *checkpoint.config.image_size_hw)


def is_depthwise(module: nn.Module) -> bool:
    """Whether each channel is filtered separately."""
    if not isinstance(module, nn.Conv2d):
        return False
    return 1 < module.groups == module.in_channels == module.out_channels


def input_axis(module: nn.Module) -> int:
    """Axis of a layer's weight over its inputs."""
    return 0 if isinstance(module, nn.ConvTranspose2d) else 1


def _describe(graph: Any, group: Any, names: dict[nn.Module, str]) -> ChannelGroup | None:
    """A group of torch-pruning in our form; None if it contains a layer of unknown kind."""
    writers: dict[str, Links] = {}
    readers: dict[str, Links] = {}
    for item in group.items:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter) or (module in names and not _can_be_cut(module)):
            return None
        if module not in names or not isinstance(module, KNOWN):
            continue  # an operation between layers, or a module without weights
        keeps_channels = isinstance(module, nn.BatchNorm2d) or is_depthwise(module)
        is_writer = keeps_channels or graph.is_out_channel_pruning_fn(item.dep.handler)
        side = writers if is_writer else readers
        pairs = torch.tensor([item.root_idxs, item.idxs])
        name = names[module]
        if name in side:  # reached on several paths
            known = torch.stack([side[name].channels, side[name].features])
            pairs = torch.cat([known, pairs], 1).unique(dim=1)
        side[name] = Links(*pairs)
    first_writer = next(iter(writers))
    found = ChannelGroup(first_writer, len(group[0].idxs), writers, readers)
    return _merged(found, _bound_pairs(graph, found, names))


def _bound_pairs(graph: Any, group: ChannelGroup, names: dict[nn.Module, str]) -> list[tuple[int, int]]:
    """Channels that can only be removed together: a layer has one feature for both, or computes one of them from the
    other.

    Ghost modules (arXiv 1911.11907) concatenate their input with the result of a depthwise convolution on it. A
    dependency graph has both halves, but not their connection.
    """
    modules = {name: module for module, name in names.items()}
    pairs: list[tuple[int, int]] = []
    for links in (*group.writers.values(), *group.readers.values()):
        pairs += _disagreements(links, links)
    for name, made in group.writers.items():
        if is_depthwise(modules[name]):
            source = group.writers.get(_source_of(graph, modules[name], names))
            if source is not None:
                pairs += _disagreements(source, made) + _lost_halves(source, made, group.width)
    return pairs


def _lost_halves(source: Links, made: Links, width: int) -> list[tuple[int, int]]:
    """Channels that only a depthwise convolution can have computed, each with its source.

    If the graph reaches the convolution by its source first, it loses the indices of its results. They come in the same
    order.
    """
    known = {*source.channels.tolist(), *made.channels.tolist()}
    lost = [channel for channel in range(width) if channel not in known]
    if len(lost) != len(made.channels):
        return []
    in_order = made.channels[made.features.argsort()]
    return list(zip(in_order.tolist(), lost, strict=True))


def _disagreements(one: Links, other: Links) -> list[tuple[int, int]]:
    """Pairs of channels that have the same feature."""
    channel_of = dict(zip(one.features.tolist(), one.channels.tolist(), strict=True))
    pairs = []
    for feature, channel in zip(other.features.tolist(), other.channels.tolist(), strict=True):
        known = channel_of.get(feature, channel)
        if known != channel:
            pairs.append((channel, known))
    return pairs


def _source_of(graph: Any, layer: nn.Module, names: dict[nn.Module, str]) -> str:
    """The name of the layer whose outputs a depthwise convolution reads, or "" if it reads several."""
    node = graph.module2node[layer]
    while len(node.inputs) == 1:
        node = node.inputs[0]
        if node.module in names and isinstance(node.module, KNOWN):
            return names[node.module]
    return ""


def _merged(group: ChannelGroup, pairs: list[tuple[int, int]]) -> ChannelGroup:
    """A group in which channels that belong together count as one."""
    if not pairs:
        return group
    leader = list(range(group.width))
    for first, second in pairs:
        one, other = leader[first], leader[second]
        leader = [min(one, other) if known in (one, other) else known for known in leader]
    number = {channel: index for index, channel in enumerate(sorted(set(leader)))}
    renamed = torch.tensor([number[channel] for channel in leader])

    def rename(side: dict[str, Links]) -> dict[str, Links]:
        found = {}
        for name, links in side.items():
            pairs = torch.stack([renamed[links.channels], links.features])
            found[name] = Links(*pairs.unique(dim=1))
        return found

    return ChannelGroup(group.name, len(number), rename(group.writers), rename(group.readers))


def _can_be_cut(module: nn.Module) -> bool:
    """Whether it has no weights, or is a layer of a known kind."""
    if not list(module.parameters()):
        return True
    is_grouped = isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module)
    return isinstance(module, KNOWN) and not is_grouped

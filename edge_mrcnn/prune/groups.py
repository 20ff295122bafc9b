"""Which channels of a Mask R-CNN stand and fall together.

Found by torch-pruning's dependency graph (DepGraph, arXiv 2301.12900) on a `Surrogate`: depthwise chains,
squeeze-and-excitation, residual and pyramid sums, the heads, and through the flattening behind RoIAlign. What is kept
of it are names and indices, which mean the same in every copy of the model.
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
    """Which features of a layer belong to which channels of a group: pairs (channel, feature)."""

    channels: Tensor
    """(L,) int64."""
    features: Tensor
    """(L,) int64: outputs of a writer, inputs of a reader; a linear layer behind a flattening has many per channel."""

    def of(self, channels: Tensor) -> Tensor:
        """The features of some channels."""
        return self.features[torch.isin(self.channels, channels)]

    @property
    def per_channel(self) -> int:
        """Features of one channel."""
        return len(self.channels) // len(self.channels.unique())


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that have to be removed from all of these layers at once."""

    name: str
    """Of the first layer that makes them."""
    width: int
    """Number of channels."""
    writers: dict[str, Links]
    """Layers whose outputs they are, depthwise convolutions and norms between them included."""
    readers: dict[str, Links]
    """Layers whose inputs they are."""


@torch.enable_grad()  # what is traced is the graph of the gradient
def find_groups(checkpoint: Checkpoint) -> list[ChannelGroup]:
    """All groups of which channels may be removed, in the order of the forward pass; the model is not changed."""
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
    """Whether each channel is filtered on its own."""
    if not isinstance(module, nn.Conv2d):
        return False
    return 1 < module.groups == module.in_channels == module.out_channels


def input_axis(module: nn.Module) -> int:
    """Axis of a layer's weight that runs over its inputs."""
    return 0 if isinstance(module, nn.ConvTranspose2d) else 1


def _describe(graph: Any, group: Any, names: dict[nn.Module, str]) -> ChannelGroup | None:
    """A group of torch-pruning in our words; None where it holds a layer of which we do not know how it is cut."""
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
        side[names[module]] = Links(torch.tensor(item.root_idxs), torch.tensor(item.idxs))
    first_writer = next(iter(writers))
    return ChannelGroup(first_writer, len(group[0].idxs), writers, readers)


def _can_be_cut(module: nn.Module) -> bool:
    """Whether it has no weights, or is a layer of a known kind."""
    if not list(module.parameters()):
        return True
    is_grouped = isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module)
    return isinstance(module, KNOWN) and not is_grouped

"""Exact removal of channels from a model: no other value changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.model.checkpoint import fit_widths
from edge_mrcnn.prune.groups import ChannelGroup, input_axis

Removal = Mapping[str, Tensor]
"""Group -> its removed channels, int64."""


def cut(model: MaskRCNN, groups: Sequence[ChannelGroup], removal: Removal) -> None:
    """Remove channels, in place: the narrower model has the same outputs as this one if nothing read those channels."""
    state = dict(model.state_dict())
    for name, features in _gone(groups, removal, "writers").items():
        is_transposed = isinstance(model.get_submodule(name), nn.ConvTranspose2d)
        for key, value in state.items():
            if _layer_of(key) != name or not value.dim():
                continue
            # A transposed convolution's weight has its outputs on axis 1; biases and statistics have one axis.
            axis = 1 if is_transposed and value.dim() > 1 else 0
            state[key] = _without(value, features, axis)
    for name, features in _gone(groups, removal, "readers").items():
        axis = input_axis(model.get_submodule(name))
        key = f"{name}.weight"
        state[key] = _without(state[key], features, axis)
    fit_widths(model, state)
    model.load_state_dict(state)


def _layer_of(key: str) -> str:
    """The layer of an entry of a state dict."""
    layer, _, _ = key.rpartition(".")
    return layer


@torch.no_grad()
def mask(model: MaskRCNN, groups: Sequence[ChannelGroup], removal: Removal) -> None:
    """Set all weights that read the removed channels to zero, in place; the widths stay."""
    for name, features in _gone(groups, removal, "readers").items():
        module = model.get_submodule(name)
        module.weight.transpose(0, input_axis(module))[features] = 0


def _gone(groups: Sequence[ChannelGroup], removal: Removal, side: Literal["writers", "readers"]) -> dict[str, Tensor]:
    """Layer -> its removed features, of all groups together."""
    found: defaultdict[str, list[Tensor]] = defaultdict(list)
    for group in groups:
        if group.name not in removal:
            continue
        links_of = group.writers if side == "writers" else group.readers
        for name, links in links_of.items():
            found[name].append(links.of(removal[group.name]))
    joined = {}
    for name, features in found.items():
        together = torch.cat(features).unique()
        if len(together):
            joined[name] = together
    return joined


def _without(value: Tensor, features: Tensor, axis: int) -> Tensor:
    kept = torch.ones(value.shape[axis], dtype=torch.bool)
    kept[features] = False
    indices = kept.nonzero().flatten().to(value.device)
    return value.index_select(axis, indices)

"""Taking channels out of a model: exact, so that what is lost is what those channels knew, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.model.checkpoint import fit_widths
from edge_mrcnn.prune.groups import ChannelGroup, input_axis

Removal = Mapping[str, Tensor]
"""Group to its channels that go, int64."""


def cut(model: MaskRCNN, groups: Sequence[ChannelGroup], removal: Removal) -> None:
    """Remove channels, in place: the narrower model answers as this one would if nothing read those channels."""
    state = dict(model.state_dict())
    for name, features in _gone(groups, removal, "writers").items():
        axis = 1 if isinstance(model.get_submodule(name), nn.ConvTranspose2d) else 0
        for key in [key for key in state if key.rpartition(".")[0] == name]:
            if state[key].dim():
                state[key] = _without(state[key], features, axis if state[key].dim() > 1 else 0)
    for name, features in _gone(groups, removal, "readers").items():
        state[f"{name}.weight"] = _without(state[f"{name}.weight"], features, input_axis(model.get_submodule(name)))
    fit_widths(model, state)
    model.load_state_dict(state)


@torch.no_grad()
def mask(model: MaskRCNN, groups: Sequence[ChannelGroup], removal: Removal) -> None:
    """Let nothing read the channels that go, in place; the widths stay."""
    for name, features in _gone(groups, removal, "readers").items():
        module = model.get_submodule(name)
        module.weight.transpose(0, input_axis(module))[features] = 0


def _gone(groups: Sequence[ChannelGroup], removal: Removal, side: str) -> dict[str, Tensor]:
    """Layer to its features that go, of all groups together."""
    found: defaultdict[str, list[Tensor]] = defaultdict(list)
    for group in groups:
        for name, links in getattr(group, side).items():
            found[name].append(links.of(removal.get(group.name, torch.zeros(0, dtype=torch.int64))))
    joined = {name: torch.cat(features).unique() for name, features in found.items()}
    return {name: features for name, features in joined.items() if len(features)}


def _without(value: Tensor, features: Tensor, axis: int) -> Tensor:
    kept = torch.ones(value.shape[axis], dtype=torch.bool)
    kept[features] = False
    return value[(slice(None),) * axis + (kept,)].clone()

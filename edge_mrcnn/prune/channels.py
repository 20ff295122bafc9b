"""Structured channel pruning: whole channels are removed, with everything that depends on them.

The result is an ordinary, narrower checkpoint, which needs no special support.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.export.cost import measure_cost
from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.prune.budget import Budget, make_budget
from edge_mrcnn.prune.costs import Widths, describe_layers
from edge_mrcnn.prune.groups import ChannelGroup, find_groups
from edge_mrcnn.prune.importance import Importance, measure_importance
from edge_mrcnn.prune.selection import choose_channels
from edge_mrcnn.prune.settings import PruneConfig
from edge_mrcnn.prune.surgery import Removal, cut
from edge_mrcnn.train.task import Batch


def prune(checkpoint: Checkpoint, batches: Iterable[Batch], config: PruneConfig, *, device: str = "auto") -> Checkpoint:
    """Remove channels until a budget of multiply-accumulates or channels is met, without training.

    Args:
        checkpoint: A trained model; it is not changed.
        batches: Training data that ranks the channels.
        config: How much to remove.
        device: Device for computing the losses: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        A narrower model, with its provenance extended.
    """
    return narrow(
        checkpoint, rank_channels(checkpoint, batches, config, device), config, make_budget(checkpoint, config)
    )


def rank_channels(checkpoint: Checkpoint, batches: Iterable[Batch], config: PruneConfig, device: str) -> Importance:
    """Importance of every channel, from training data."""
    model = copy.deepcopy(checkpoint.model)
    return measure_importance(model, find_groups(checkpoint), batches, config.images, seed=config.seed, device=device)


def narrow(checkpoint: Checkpoint, importance: Importance, config: PruneConfig, budget: Budget) -> Checkpoint:
    """Remove channels down to a budget; `checkpoint` may be the original model, or already narrower."""
    groups, layers = find_groups(checkpoint), describe_layers(checkpoint)
    floors = {group.name: round(config.least * group.width) for group in groups}
    widths = Widths(layers, groups)
    removal = choose_channels(
        groups, importance, widths, budget.cost, budget.goal, round_to=config.round_to, floors=floors
    )
    model = copy.deepcopy(checkpoint.model)
    cut(model, groups, removal)
    pruned = replace(checkpoint, model=model.eval())
    record = {"ratio": config.ratio, **_costs(checkpoint, pruned), "widths": _new_widths(groups, removal)}
    if config.latency_ms is None:  # a latency is measured, not computed from the widths
        record["asked"] = budget.goal / budget.full
        record["reached"] = widths.total(budget.cost) / budget.full
    return replace(pruned, training={**checkpoint.training, "pruned": record})


def _costs(before: Checkpoint, after: Checkpoint) -> dict[str, Any]:
    """Parameters and multiply-accumulates before pruning, and now."""
    now = measure_cost(after.model, after.config)
    was = measure_cost(before.model, before.config)
    first = before.training.get("pruned", {})
    return {
        "parameters": [first.get("parameters", [was.parameters])[0], now.parameters],
        "macs": [first.get("macs", [was.macs])[0], now.macs],
    }


def _new_widths(groups: Iterable[ChannelGroup], removal: Removal) -> dict[str, list[int]]:
    """Group -> its width before and after, for changed groups."""
    return {g.name: [g.width, g.width - len(removal[g.name])] for g in groups if g.name in removal}


def training_batches(data: CocoData, checkpoint: Checkpoint, batch: int, seed: int) -> Iterable[Batch]:
    """Batches of training views without augmentation, for `prune`."""
    from edge_mrcnn.config import TrainConfig
    from edge_mrcnn.data.dataset import InstanceDataset
    from edge_mrcnn.data.loader import train_loader
    from edge_mrcnn.model.mask_rcnn import PAD_RGB

    settings = TrainConfig(batch=batch, seed=seed, workers=0)
    return train_loader(InstanceDataset(data, checkpoint.config.image_size_hw, PAD_RGB, settings))

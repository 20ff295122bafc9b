"""What a pruned model may cost, in the unit that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.prune.costs import ChannelCost, CostModel, MacCost, Widths, describe_layers
from edge_mrcnn.prune.groups import find_groups
from edge_mrcnn.prune.settings import PruneConfig


@dataclass(frozen=True)
class Budget:
    """A cost to come down to."""

    cost: CostModel
    full: float
    """What the model costs now, in the unit of `cost`."""
    goal: float
    """What it may cost."""

    def after(self, share: float) -> float:
        """The goal of a step that ends after this share of the way."""
        return self.full - share * (self.full - self.goal)


def make_budget(checkpoint: Checkpoint, config: PruneConfig) -> Budget:
    """The budget of multiply-accumulates or channels that a config asks for, of this model."""
    layers, groups = describe_layers(checkpoint), find_groups(checkpoint)
    cost: CostModel = MacCost(layers) if config.ratio is None else ChannelCost.of(groups, layers)
    full = Widths(layers, groups).total(cost)
    share = config.macs if config.ratio is None else 1 - config.ratio
    return Budget(cost, full, full * (1.0 if share is None else share))

"""The budget of a pruned model, in the unit of its option."""

from __future__ import annotations

from dataclasses import dataclass

from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.prune.costs import ChannelCost, CostModel, MacCost, Widths, describe_layers
from edge_mrcnn.prune.groups import find_groups
from edge_mrcnn.prune.settings import PruneConfig


@dataclass(frozen=True)
class Budget:
    """A target for a cost."""

    cost: CostModel
    full: float
    """Current cost of the model, in the unit of `cost`."""
    goal: float
    """Target cost."""

    def after(self, share: float) -> float:
        """The target of a step after this share of the total reduction."""
        return self.full - share * (self.full - self.goal)


def make_budget(checkpoint: Checkpoint, config: PruneConfig) -> Budget:
    """The budget of multiply-accumulates or channels in a config, for this model."""
    layers, groups = describe_layers(checkpoint), find_groups(checkpoint)
    cost: CostModel = MacCost(layers) if config.ratio is None else ChannelCost.of(groups, layers)
    full = Widths(layers, groups).total(cost)
    share = config.macs if config.ratio is None else 1 - config.ratio
    return Budget(cost, full, full * (1.0 if share is None else share))

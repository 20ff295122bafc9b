"""What a pruned model may cost, in the unit that was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.prune.costs import ChannelCost, CostModel, MacCost, Widths, describe_layers
from edge_mrcnn.prune.groups import find_groups
from runtimes.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How much to remove, by one of the first three, and how to choose it; a sparsity may come with it or alone."""

    macs: float | None = None
    """Share of the multiply-accumulates that remains, in (0, 1]."""
    ratio: float | None = None
    """Share of the channels that goes, in [0, 1)."""
    latency_ms: float | None = None
    """Time of one image on `runtime`, in milliseconds."""
    sparsity: str | None = None
    """Single weights to set to zero: "2:4", or the share of each layer's in (0, 1)."""
    runtime: str = "openvino"
    """Where the latency is measured: "onnx", "openvino" or "tflite"."""
    threads: int | None = None
    """CPU threads of that runtime; its own choice if None."""
    round_to: int = 8
    """Channel counts step to multiples of this, which kernels prefer."""
    least: float = 0.33
    """Share of its channels that each group keeps: Fisher information, being local, undervalues the last ones."""
    images: int = 96
    """Training images that tell which channels matter."""
    seed: int = 0
    """Seed of the proposals and regions that the losses are sampled from."""

    def __post_init__(self) -> None:
        budgets = sum(value is not None for value in (self.macs, self.ratio, self.latency_ms))
        if budgets > 1 or not (budgets or self.sparsity):
            raise UsageError("expected exactly one budget: --macs, --ratio or --target-latency-ms")
        if self.sparsity not in (None, "2:4") and not 0 < _number(self.sparsity) < 1:
            raise UsageError(f"--sparsity {self.sparsity}: expected 2:4, or a share such as 0.5")
        if self.macs is not None and not 0 < self.macs <= 1:
            raise UsageError(f"--macs {self.macs}: expected more than 0 and at most 1, the share that remains")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise UsageError(f"--ratio {self.ratio}: expected at least 0 and less than 1, the share that goes")
        if self.latency_ms is not None and self.latency_ms <= 0:
            raise UsageError(f"--target-latency-ms {self.latency_ms}: expected more than 0")
        if self.images < 1 or self.round_to < 1 or not 0 <= self.least < 1:
            raise UsageError(
                f"images {self.images}, round_to {self.round_to} and least {self.least}: "
                "expected at least 1, at least 1, and from 0 to below 1"
            )

    @property
    def is_whole(self) -> bool:
        """Whether all channels stay."""
        return self.macs is None and self.ratio is None and self.latency_ms is None


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


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

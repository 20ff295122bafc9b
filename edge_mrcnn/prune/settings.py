"""Settings of pruning, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from edge_mrcnn.settings import Flag, Range, check
from runtimes.errors import UsageError
from runtimes.formats import FORMATS


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How much to remove and how to choose it: one of the three budgets, a sparsity, or both."""

    macs: Annotated[float | None, Range(0, 1, without_least=True)] = None
    """Budget: share of the multiply-accumulates to keep."""
    ratio: Annotated[float | None, Range(0, 1, without_most=True)] = None
    """Budget: share of the channels to remove."""
    latency_ms: Annotated[float | None, Range(0, without_least=True), Flag("--target-latency-ms")] = None
    """Budget: latency of one image on `runtime`, in milliseconds."""
    sparsity: str | None = None
    """Set single weights to zero: 2:4, or a share such as 0.5. This shrinks the zipped file, but not the latency."""
    runtime: str = "openvino"
    """Format whose runtime measures the latency budget on this machine: onnx, openvino or tflite."""
    threads: Annotated[int | None, Range(1)] = None
    """CPU threads of that runtime; by default the runtime chooses."""
    round_to: Annotated[int, Range(1)] = 8
    """Round channel counts to multiples of this number, with which kernels are faster."""
    least: Annotated[float, Range(0, 1, without_most=True), Flag("--least-channels")] = 0.33
    """Minimum share of channels that each group keeps; the ranking underrates the last channels of a group."""
    images: Annotated[int, Range(1), Flag("--ranking-images")] = 96
    """Number of training images that rank the channels."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed of the sampled proposals and regions."""

    def __post_init__(self) -> None:
        budgets = sum(value is not None for value in (self.macs, self.ratio, self.latency_ms))
        if budgets > 1 or not (budgets or self.sparsity):
            raise UsageError("expected exactly one budget: --macs, --ratio or --target-latency-ms")
        if self.sparsity not in (None, "2:4") and not 0 < _number(self.sparsity) < 1:
            raise UsageError(f"--sparsity {self.sparsity}: expected 2:4, or a share such as 0.5")
        if self.runtime not in FORMATS:
            raise UsageError(f"--runtime {self.runtime}: expected {', '.join(FORMATS)}")
        check(self)

    @property
    def is_whole(self) -> bool:
        """Whether no channel is removed."""
        return self.macs is None and self.ratio is None and self.latency_ms is None


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan

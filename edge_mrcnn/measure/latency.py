"""Times of models side by side: they take turns, so that a busy minute of the machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.progress import Progress, silent


@dataclass(frozen=True)
class Percentiles:
    """A time over many images, in milliseconds."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Percentiles:
        """Median, 90th and 99th percentile of at least one time."""
        return cls(*map(float, np.percentile(times_ms, (50, 90, 99))))


def measure_latency(
    runtimes: Sequence[Any],
    images: Sequence[np.ndarray],
    *,
    warm_up: int = 3,
    rounds: int = 3,
    progress: Progress = silent,
) -> list[dict[str, Percentiles]]:
    """Time all runtimes in turn on each image.

    Args:
        runtimes: Each with `infer`.
        images: (H, W, 3) uint8 RGB each, at least one.
        warm_up: Untimed calls of each runtime beforehand.
        rounds: How often each image is shown to each runtime; its median counts.
        progress: Told after each image.

    Returns:
        For each runtime its stages as it reports them, and "total": the wall time of `infer`, in milliseconds.
    """
    for runtime in runtimes:
        for _ in range(warm_up):
            runtime.infer(images[0])
    times: list[list[dict[str, float]]] = [[] for _ in runtimes]
    for done, image in enumerate(images, start=1):
        trials: list[list[dict[str, float]]] = [[] for _ in runtimes]
        for round_ in range(rounds):
            for index in rotated(len(runtimes), by=done + round_):
                trials[index].append(_time(runtimes[index], image))
        for index, trial in enumerate(trials):
            times[index].append({stage: statistics.median(t[stage] for t in trial) for stage in trial[0]})
        progress("latency", done, len(images))
    return [summarize_stages(t) for t in times]


def rotated(count: int, *, by: int) -> list[int]:
    """All indices, starting elsewhere each time: who runs second finds other caches than who runs first."""
    return [(index + by) % count for index in range(count)]


def summarize_latency(times: Sequence[dict[str, float]]) -> dict[str, Percentiles]:
    """Percentiles of each stage and of their sum.

    Args:
        times: One image's stages in milliseconds each, at least one image.
    """
    return summarize_stages([{**stages, "total": sum(stages.values())} for stages in times])


def summarize_stages(times: Sequence[dict[str, float]]) -> dict[str, Percentiles]:
    """Percentiles of each stage; all records, at least one, have the same stages."""
    return {stage: Percentiles.of([record[stage] for record in times]) for stage in times[0]}


def _time(runtime: Any, image: np.ndarray) -> dict[str, float]:
    start = time.perf_counter()
    detections = runtime.infer(image)
    wall = (time.perf_counter() - start) * 1000.0
    return {**detections.speed_ms, "total": wall}

"""Interleaved timing of models: they take turns, so that other load on the machine slows all of them alike."""

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
    """Percentiles of a time over many images, in milliseconds."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Percentiles:
        """Median, 90th and 99th percentile of at least one time."""
        p50, p90, p99 = np.percentile(times_ms, (50, 90, 99)).tolist()
        return cls(p50, p90, p99)


Stages = dict[str, float]
"""Stage to milliseconds."""


def measure_latency(
    runtimes: Sequence[Any],
    images: Sequence[np.ndarray],
    *,
    warm_up: int = 3,
    rounds: int = 3,
    progress: Progress = silent,
) -> list[dict[str, Percentiles]]:
    """Time all runtimes on each image, interleaved.

    Args:
        runtimes: Each with `infer`.
        images: (H, W, 3) uint8 RGB each, at least one.
        warm_up: Number of untimed warm-up calls of each runtime.
        rounds: Number of runs per image and runtime; the median counts.
        progress: Called after each image.

    Returns:
        For each runtime its stages as it reports them, and "total": the wall time of `infer`, in milliseconds.
    """
    for runtime in runtimes:
        for _ in range(warm_up):
            runtime.infer(images[0])
    times: list[list[Stages]] = [[] for _ in runtimes]
    for done, image in enumerate(images, start=1):
        trials: list[list[Stages]] = [[] for _ in runtimes]
        for round_ in range(rounds):
            for index in rotated(len(runtimes), by=done + round_):
                trials[index].append(_time(runtimes[index], image))
        for index, trial in enumerate(trials):
            times[index].append(_median(trial))
        progress("latency", done, len(images))
    return [summarize_stages(of_one) for of_one in times]


def _median(trials: Sequence[Stages]) -> Stages:
    """The median of each stage."""
    medians = {}
    for stage in trials[0]:
        medians[stage] = statistics.median(trial[stage] for trial in trials)
    return medians


def rotated(count: int, *, by: int) -> list[int]:
    """All indices, starting at another one each time, because the state of the caches depends on the order."""
    return [(index + by) % count for index in range(count)]


def summarize_latency(times: Sequence[Stages]) -> dict[str, Percentiles]:
    """Percentiles of each stage and of their sum.

    Args:
        times: One image's stages in milliseconds each, at least one image.
    """
    with_total = [{**stages, "total": sum(stages.values())} for stages in times]
    return summarize_stages(with_total)


def summarize_stages(times: Sequence[Stages]) -> dict[str, Percentiles]:
    """Percentiles of each stage; all records, at least one, have the same stages."""
    percentiles = {}
    for stage in times[0]:
        percentiles[stage] = Percentiles.of([record[stage] for record in times])
    return percentiles


def _time(runtime: Any, image: np.ndarray) -> Stages:
    start = time.perf_counter()
    detections = runtime.infer(image)
    wall_ms = (time.perf_counter() - start) * 1000.0
    return {**detections.speed_ms, "total": wall_ms}

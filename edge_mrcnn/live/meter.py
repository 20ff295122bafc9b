"""Statistics of one run: frames per second, and the time of each stage."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping

import numpy as np

RECENT = 10_000
"""Number of recent frames for the percentiles, so that memory stays bounded."""


class Meter:
    """Times of each stage and frames per second; usable from any thread."""

    def __init__(self) -> None:
        self.frames = 0
        self._start = time.perf_counter()
        self._stages: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))

    def add(self, speed_ms: Mapping[str, float]) -> None:
        """Add the stage times of one frame, in milliseconds."""
        for stage, value in speed_ms.items():
            self._stages[stage].append(value)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @property
    def fps(self) -> float:
        """Frames per second, end to end."""
        return self.frames / max(self.elapsed_s, 1e-9)

    def table(self) -> Iterator[str]:
        """Median and 90th percentile of each stage, as lines of text."""
        yield f"{'stage':<12}{'p50 ms':>9}{'p90 ms':>9}"
        for stage, values in self._stages.items():
            p50, p90 = np.percentile(values, [50, 90])
            yield f"{stage:<12}{p50:>9.1f}{p90:>9.1f}"

"""Recent times, counts and health, for the page, the metrics and the watchdog. Memory is bounded."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from runtimes import Detections
from runtimes.sources import Frame
from runtimes.stream import SourceStatus

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the time histograms, in seconds: from a GPU's frame time to a Raspberry Pi's."""
RECENT = 256
"""Number of recent frames for the percentiles on the page."""
HEALTHY_S = 10.0
"""Seconds without a processed frame after which the loop counts as unhealthy."""
END_TO_END = "end_to_end"
"""Name of the time from a frame's arrival to its result; listed with the stages."""
RESTING = frozenset({"paused", "ended"})
"""States of a source that is expected to send no frames."""


@dataclass
class Histogram:
    """Times of one stage: counts by bucket since the start, and the recent values."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    """Values up to each bound of `BUCKETS_S` and above the previous one; the last count is above all bounds."""
    sum_s: float = 0.0
    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, seconds: float) -> None:
        """Add one value."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds
        self.recent_s.append(seconds)

    def copy(self) -> Histogram:
        """A snapshot."""
        return Histogram(list(self.counts), self.sum_s, self.recent_s.copy())

    def percentiles_ms(self, *ranks: float) -> list[float]:
        """Percentiles of the recent values, in milliseconds; needs at least one value."""
        values: list[float] = (1e3 * np.percentile(self.recent_s, ranks)).tolist()
        return values


@dataclass(frozen=True)
class Health:
    """Whether frames are processed, and if not, the reason."""

    is_ok: bool
    reason: str


class Monitor:
    """Receives every result of the loop; readable from any thread."""

    def __init__(self, status: Callable[[], Iterable[SourceStatus]], *, clock: Callable[[], float] = time.monotonic):
        """Make one.

        Args:
            status: The current state of each source; callable from any thread.
            clock: Monotonic clock, in seconds.
        """
        self.status = status
        self._clock = clock
        self._lock = threading.Lock()
        self._times: dict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self._objects: dict[str, Counter[str]] = {}
        self._found: Counter[tuple[str, str]] = Counter()
        self._last: dict[str, Detections] = {}
        self._start_s = clock()
        self._last_s: float | None = None

    def put(self, frame: Frame, found: Detections) -> None:
        """Add the result of a frame."""
        present = count_classes(found)
        with self._lock:
            self._last_s = self._clock()
            self._objects[frame.source] = present
            self._last[frame.source] = found
            self._found.update({(frame.source, name): count for name, count in present.items()})
        delay = {END_TO_END: 1e3 * (time.monotonic() - frame.arrived)} if frame.arrived else {}
        self.add_times(frame.source, {**found.speed_ms, **delay})

    def add_times(self, source: str, times_ms: Mapping[str, float]) -> None:
        """Add the stage times of a frame, in milliseconds."""
        with self._lock:
            for stage, value in times_ms.items():
                self._times[source, stage].add(value / 1e3)

    def times(self) -> dict[tuple[str, str], Histogram]:
        """(source, stage) -> times so far."""
        with self._lock:
            return {key: histogram.copy() for key, histogram in self._times.items()}

    def objects(self, source: str) -> Counter[str]:
        """Class -> number of objects in the last frame of a source."""
        with self._lock:
            return Counter(self._objects.get(source, {}))

    def last(self, source: str) -> Detections | None:
        """Detections in the last frame of a source; None before the first one."""
        with self._lock:
            return self._last.get(source)

    def found(self) -> Counter[tuple[str, str]]:
        """(source, class) -> detections so far, over all frames."""
        with self._lock:
            return Counter(self._found)

    @property
    def has_result(self) -> bool:
        """Whether any frame has been processed."""
        return self._last_s is not None

    @property
    def uptime_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start_s

    def health(self) -> Health:
        """Whether frames are processed; a pause by the user is healthy."""
        with self._lock:
            last_s = self._last_s
        statuses = list(self.status())
        if statuses and all(status.state in RESTING for status in statuses):
            return Health(True, ", ".join(f"{status.name}: {status.state}" for status in statuses))
        if last_s is not None and self._clock() - last_s <= HEALTHY_S:
            return Health(True, "frames are processed")
        return Health(False, self._complain(statuses, last_s))

    def _complain(self, statuses: list[SourceStatus], last_s: float | None) -> str:
        silence = "no frame yet" if last_s is None else f"no frame for {self._clock() - last_s:.0f} s"
        details = [f"{s.name}: {s.state}{f' ({s.error})' if s.error else ''}" for s in statuses]
        return "; ".join([silence, *details])


def count_classes(found: Detections) -> Counter[str]:
    """Class -> number of its objects."""
    return Counter(found.names[label] for label in found.labels.tolist())

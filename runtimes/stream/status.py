"""Status of the sources of a stream: states, and frame counts.

Every received frame is processed, dropped for a cause, or in flight.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CAUSES = ("late", "damaged", "paused", "failed", "end", "limited")
"""Causes of dropped frames: late (a newer frame came before the model was free); damaged (according to the decoder);
paused (the source was); failed (the model did on it); end (it was waiting when its source was lost or the stream
ended); limited (a newer frame came before the next one was due, with a limited rate such as `#infer=5`)."""
STATES = ("opening", "live", "stalled", "lost", "paused", "ended", "failed")
"""`stalled`: connected, but no frame in time; `lost`: the connection failed; both are retried. `ended` and `failed` are
final."""
RATE_WINDOW_S = 5.0
"""Window for frames per second, in seconds."""


@dataclass(frozen=True)
class SourceStatus:
    """One source at one moment: received == processed + sum(dropped.values()) + in_flight."""

    name: str
    """Label of the source; a password in it is hidden."""
    state: str
    """One of `STATES`."""
    error: str
    """Error in one line without secrets; "" if there is none."""
    received: int
    """Frames received from the source."""
    processed: int
    """Frames that were inferred and handed out."""
    dropped: Mapping[str, int]
    """Dropped frames by cause, one of `CAUSES`."""
    in_flight: int
    """Frames that wait, are being inferred, or wait to be handed out."""
    reconnects: int
    """Number of reconnections."""
    stalls: int
    """Number of times that frames stopped while the connection stood."""
    last_frame_age_s: float | None
    """Seconds since the last frame came; None before the first."""
    fps: float
    """Recent rate of frames handed out."""
    source_fps: float
    """Recent rate of frames received."""
    size_hw: tuple[int, int] | None
    """Height and width of the last frame, in pixels."""
    still: int = 0
    """Processed frames without inference, because nothing had moved."""


@dataclass(frozen=True)
class Counts:
    """Frame counts of all sources: received == processed + dropped + in_flight."""

    received: int = 0
    processed: int = 0
    dropped: int = 0
    in_flight: int = 0
    reconnects: int = 0

    @classmethod
    def sum(cls, statuses: Iterable[SourceStatus]) -> Counts:
        """The counts of several sources together."""
        rows = [(s.received, s.processed, sum(s.dropped.values()), s.in_flight, s.reconnects) for s in statuses]
        return cls(*map(sum, zip(*rows, strict=True))) if rows else cls()


class Rate:
    """Rate of a growing counter."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, total: int, now: float) -> None:
        """Add the value of the counter at a time of the monotonic clock."""
        self._samples.append((now, total))
        while now - self._samples[0][0] > RATE_WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()

    def per_second(self, now: float) -> float:
        """Growth per second over the window; 0 without values in it."""
        recent = [sample for sample in self._samples if now - sample[0] <= RATE_WINDOW_S]
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return 0.0
        # When the counter stops, the time since its last step counts as well, so that the rate falls.
        step = (recent[-1][0] - recent[0][0]) / (len(recent) - 1)
        span = max(recent[-1][0], now - 2 * step) - recent[0][0]
        return (recent[-1][1] - recent[0][1]) / span


@dataclass
class Ledger:
    """Frame counts of one source; access needs the stream's lock."""

    received: int = 0
    processed: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    still: int = 0
    """Processed frames without inference, because nothing had moved."""
    running: int = 0
    """Frames given to the model and not handed out yet."""
    reconnects: int = 0
    stalls: int = 0
    last_frame: float | None = None
    """Time of the last frame, by the monotonic clock."""
    size_hw: tuple[int, int] | None = None
    arrivals: Rate = field(default_factory=Rate)
    departures: Rate = field(default_factory=Rate)

    def receive(self, count: int, size_hw: tuple[int, int], arrived: float) -> None:
        """Count received frames, the last of which came at a time of the monotonic clock."""
        self.received += count
        self.last_frame, self.size_hw = arrived, size_hw
        self.arrivals.add(self.received, arrived)

    def drop(self, cause: str, count: int = 1) -> None:
        """Count dropped frames."""
        self.dropped[cause] += count

    def hand_out(self, *, is_still: bool = False) -> None:
        """Count a frame that is handed out; `is_still` if it has the detections of an earlier frame."""
        self.running -= 1
        self.processed += 1
        self.still += is_still
        self.departures.add(self.processed, time.monotonic())

    def fail(self, cause: str) -> None:
        """Count a frame in inference as dropped."""
        self.running -= 1
        self.drop(cause)

"""What a stream tells about its sources: states, and where every frame went.

A frame that was received is processed, dropped for a cause, or in flight; nothing else can become of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

CAUSES = ("late", "damaged", "paused", "failed", "end", "limited")
"""Why frames are dropped: a newer one came before the model was free; the decoder called it broken; its source was
paused; the model failed on it; it was waiting when its source was lost or the stream ended; a newer one came before the
next one was due, where the source says how many the model is to see (`#infer=5`)."""
STATES = ("opening", "live", "stalled", "lost", "paused", "ended", "failed")
"""`stalled`: connected, but no frame in time; `lost`: the connection failed; both are tried again. `ended` and `failed`
are for good."""
RATE_WINDOW_S = 5.0
"""Over how many seconds frames per second are counted."""


@dataclass(frozen=True)
class SourceStatus:
    """One source at one moment: received == processed + sum(dropped.values()) + in_flight."""

    name: str
    """Label of the source; a password in it is hidden."""
    state: str
    """One of `STATES`."""
    error: str
    """What is wrong, in one line without secrets; "" when nothing is."""
    received: int
    """Frames that the source gave."""
    processed: int
    """Frames that were inferred and handed out."""
    dropped: Mapping[str, int]
    """Frames by cause, one of `CAUSES`."""
    in_flight: int
    """Frames that wait, are being inferred, or wait to be handed out."""
    reconnects: int
    """Times that the source came back."""
    stalls: int
    """Times that frames stopped coming while the connection stood."""
    last_frame_age_s: float | None
    """Seconds since the last frame came; None before the first."""
    fps: float
    """Frames handed out per second, lately."""
    source_fps: float
    """Frames received per second, lately."""
    size_hw: tuple[int, int] | None
    """Height and width of the last frame, in pixels."""
    still: int = 0
    """Of the processed ones: frames that were not inferred, since nothing had moved."""


@dataclass(frozen=True)
class Counts:
    """What became of the frames of all sources: received == processed + dropped + in_flight."""

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
    """How fast a counter grows."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, total: int, now: float) -> None:
        """Note the value of the counter at a time of the monotonic clock."""
        self._samples.append((now, total))
        while now - self._samples[0][0] > RATE_WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()

    def per_second(self, now: float) -> float:
        """Growth per second over the window; 0 when nothing was noted in it."""
        recent = [sample for sample in self._samples if now - sample[0] <= RATE_WINDOW_S]
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return 0.0
        # Once the counter stands still, the time since its last step counts too, so that the rate falls.
        step = (recent[-1][0] - recent[0][0]) / (len(recent) - 1)
        span = max(recent[-1][0], now - 2 * step) - recent[0][0]
        return (recent[-1][1] - recent[0][1]) / span


@dataclass
class Ledger:
    """The accounts of one source; whoever touches them holds the stream's lock."""

    received: int = 0
    processed: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    still: int = 0
    """Of the processed ones: frames that were not inferred, since nothing had moved."""
    running: int = 0
    """Frames that the model was given and that were not handed out yet."""
    reconnects: int = 0
    stalls: int = 0
    last_frame: float | None = None
    """When the last frame came, by the monotonic clock."""
    size_hw: tuple[int, int] | None = None
    arrivals: Rate = field(default_factory=Rate)
    departures: Rate = field(default_factory=Rate)

    def receive(self, count: int, size_hw: tuple[int, int], arrived: float) -> None:
        """Enter frames, the last of which came at a time of the monotonic clock."""
        self.received += count
        self.last_frame, self.size_hw = arrived, size_hw
        self.arrivals.add(self.received, arrived)

    def drop(self, cause: str, count: int = 1) -> None:
        """Write frames off."""
        self.dropped[cause] += count

    def hand_out(self, *, is_still: bool = False) -> None:
        """A frame that was running goes to the caller; with an older answer if nothing had moved."""
        self.running -= 1
        self.processed += 1
        self.still += is_still
        self.departures.add(self.processed, time.monotonic())

    def fail(self, cause: str) -> None:
        """A frame that was running is written off."""
        self.running -= 1
        self.drop(cause)

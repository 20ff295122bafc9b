"""One reader per source: a thread that takes frames as they come and opens a lost source again.

All readers of a stream share one lock, a condition that is notified whenever anything changes; so a snapshot of all
counts is exact. The caller of a method "under the lock" must hold the lock.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

from runtimes.errors import EdgeError, SourceError, one_line
from runtimes.sources import STALL_S, Frame, Source
from runtimes.sources.pixels import MissingPixels
from runtimes.stream.backoff import pause_before_retry
from runtimes.stream.status import Ledger, SourceStatus
from runtimes.stream.stillness import Stillness

AHEAD = 3
"""Frames of a file that are decoded ahead."""
JOIN_S = 1.0
"""Timeout for the end of a thread, in seconds."""

logger = logging.getLogger(__name__)


class Reader(ABC):
    """Reads one source in a thread of its own."""

    def __init__(self, name: str, source: Source, changed: threading.Condition, *, is_patient: bool) -> None:
        self.name = name
        self.source = source
        self.ledger = Ledger()
        self.is_paused = False
        self.is_alone = False
        """Whether the stream ends with it, so that its error is raised and need not be logged."""
        self.wants_picture: Callable[[], bool] = lambda: True
        """Whether any output may use the picture of the next frame; called under the lock."""
        self.stillness: Stillness | None = None
        """Detects frames in which nothing moved, which the model skips; None if it processes all."""
        self.error: Exception | None = None
        """Why the source failed for good."""
        self._changed = changed
        self._is_patient = is_patient
        self._state = "opening"
        self._trouble = ""
        self._is_stopping = False
        self._start = 0.0
        # A read may block in a driver for seconds, so nobody waits for this thread at exit.
        self._thread = threading.Thread(target=self._run, name=f"frames of {name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._start = time.monotonic()
        self._thread.start()

    def halt(self) -> None:
        """Tell the thread to end and break off what it waits for; `stop` waits for it."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        self.source.abort()

    def stop(self) -> None:
        """End the thread; frames that still wait are dropped."""
        self.halt()
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
        with self._changed:
            self._discard("end")
            if self._state != "failed":
                self._state = "ended"

    def pause(self, is_paused: bool) -> None:
        """Stop or go on giving frames, under the lock."""
        self.is_paused = is_paused
        self._changed.notify_all()

    @property
    def has_frame(self) -> bool:
        """Whether `take` has something to give, under the lock."""
        return self._waiting() > 0 and not self.is_paused

    @property
    def is_over(self) -> bool:
        """Whether no frame will ever come again, under the lock."""
        return self._state in ("ended", "failed") and not self._waiting()

    def status(self) -> SourceStatus:
        """A snapshot, under the lock."""
        now, ledger = time.monotonic(), self.ledger
        age = None if ledger.last_frame is None else now - ledger.last_frame
        state = self._state
        if state == "live" and self.source.is_live and age is not None and age > self._patience_s:
            state = "stalled"
        if self.is_paused and state in ("opening", "live"):
            state = "paused"
        return SourceStatus(
            name=self.name,
            state=state,
            error=self._trouble,
            received=ledger.received,
            processed=ledger.processed,
            dropped=dict(ledger.dropped),
            in_flight=self._waiting() + ledger.running,
            reconnects=ledger.reconnects,
            stalls=ledger.stalls,
            last_frame_age_s=age,
            fps=ledger.departures.per_second(now),
            source_fps=ledger.arrivals.per_second(now),
            size_hw=ledger.size_hw,
            still=ledger.still,
        )

    @property
    def _patience_s(self) -> float:
        """Seconds without a frame after which the source counts as stalled."""
        return STALL_S

    def prepare(self, delay_s: float = 0.0) -> None:  # noqa: B027  # only what is asked for frames has something to do
        """Have a frame ready when the model is free, which is in the given number of seconds; under the lock."""

    @abstractmethod
    def take(self) -> Frame:
        """A frame that was not taken before, under the lock; only after `has_frame`."""

    @abstractmethod
    def _waiting(self) -> int:
        """Frames that were received and not taken, under the lock."""

    @abstractmethod
    def _discard(self, cause: str) -> None:
        """Drop the frames that wait, under the lock."""

    @abstractmethod
    def _read_once(self) -> None:
        """Open the source and read it until it ends or `stop` is called.

        Raises:
            SourceError: If it cannot be opened or is lost.
        """

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._read_again_and_again()
        except Exception as caught:  # raised again in the thread that takes the frames
            error = caught
        with self._changed:
            self.error = error
            self._state = "failed" if error else "ended"
            self._trouble = one_line(error) if error else ""
            self._changed.notify_all()
        if error and not self.is_alone:
            logger.error("%s", error if isinstance(error, EdgeError) else f"{self.name}: {one_line(error)}")

    def _read_again_and_again(self) -> None:
        chance = random.Random()
        while not self._is_stopping:
            try:
                self._read_once()
                return
            except SourceError as error:
                if self._is_stopping:
                    return
                if error.code == "ended":
                    return
                if not self.source.can_reconnect or not (self.ledger.received or self._is_patient):
                    raise
                self._rest(error, chance)

    def _rest(self, error: SourceError, chance: random.Random) -> None:
        """Log what is wrong and wait until the next attempt."""
        with self._changed:
            well = self.ledger.last_frame or self._start
            pause = pause_before_retry(time.monotonic() - well, error.code, chance=chance)
            is_news = self._trouble != str(error)
            self.ledger.stalls += error.code == "stalled"
            self._state = "stalled" if error.code in ("stalled", "silent") else "lost"
            self._trouble = str(error)
            self._changed.notify_all()
        if is_news:
            logger.warning("%s; reconnecting", error)
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopping, pause)

    def _connect(self) -> None:
        """A decoded frame has come: only this proves a connection. Under the lock."""
        if self._state in ("lost", "stalled"):
            self.ledger.reconnects += bool(self.ledger.received)
            logger.warning("%s: connected again", self.name)
        self._state, self._trouble = "live", ""

    def _label(self, frame: Frame, index: int, arrived: float) -> Frame:
        """A frame with the name of its source, numbered and timed over reconnections if the source is live."""
        # The image is handed on as it is; `replace` would have RGB made of it.
        labels: dict[str, Any] = {"image": frame.pixels, "source": self.name, "arrived": arrived}
        if self.source.is_live:
            labels |= {"index": index, "time_s": arrived - self._start}
        return replace(frame, **labels)


class FileReader(Reader):
    """Every frame, a few decoded ahead."""

    def __init__(self, name: str, source: Source, changed: threading.Condition, *, is_patient: bool) -> None:
        super().__init__(name, source, changed, is_patient=is_patient)
        self._queue: deque[Frame] = deque()

    def take(self) -> Frame:
        frame = self._queue.popleft()
        self._changed.notify_all()
        return frame

    def _waiting(self) -> int:
        return len(self._queue)

    def _discard(self, cause: str) -> None:
        self.ledger.drop(cause, len(self._queue))
        self._queue.clear()

    def _read_once(self) -> None:
        with closing(iter(self.source)) as frames:
            for frame in frames:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_stopping or len(self._queue) < AHEAD)
                    if self._is_stopping:
                        return
                    self._put(frame)

    def _put(self, frame: Frame) -> None:
        now = time.monotonic()
        self._connect()
        self.ledger.receive(1, frame.size_hw, now)
        if frame.small is not None and not self.wants_picture():
            # Up to AHEAD frames wait here; drop their images, which no output wants, to save memory.
            changes: dict[str, Any] = {"image": MissingPixels(frame.size_hw)}
            frame = replace(frame, **changes)
        self._queue.append(self._label(frame, frame.index, now))
        self._changed.notify_all()


class LiveReader(Reader):
    """The newest frame of a live source that is read in this process."""

    def __init__(self, name: str, source: Source, changed: threading.Condition, *, is_patient: bool) -> None:
        super().__init__(name, source, changed, is_patient=is_patient)
        self._slot: Frame | None = None

    def take(self) -> Frame:
        frame, self._slot = self._slot, None
        assert frame is not None
        return frame

    def _waiting(self) -> int:
        return int(self._slot is not None)

    def _discard(self, cause: str) -> None:
        self.ledger.drop(cause, self._waiting())
        self._slot = None

    def _read_once(self) -> None:
        with closing(iter(self.source)) as frames:
            for frame in frames:
                with self._changed:
                    if self._is_stopping:
                        return
                    self._put(frame)

    def _put(self, frame: Frame) -> None:
        now = time.monotonic()
        self._connect()
        self._discard("paused" if self.is_paused else "late")
        self.ledger.receive(1, frame.size_hw, now)
        self._slot = self._label(frame, self.ledger.received - 1, now)
        self._changed.notify_all()

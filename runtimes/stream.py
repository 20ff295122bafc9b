"""The camera loop: infer the newest frame of a live source, every frame of a file.

Late frames are dropped, not queued: a queue makes the delay grow without end when the model is slower than the camera.
A lost network stream is opened again, on a fresh handle, with growing pauses.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace

from runtimes.base import Runtime
from runtimes.errors import SourceError
from runtimes.sources import Frame, Source
from runtimes.types import Detections

BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before the attempts to reconnect; the last one repeats."""
_JOIN_S = 1.0

logger = logging.getLogger(__name__)


@dataclass
class Counts:
    """What became of the frames: received = processed + dropped + in flight."""

    received: int = 0
    """Frames that the source gave."""
    processed: int = 0
    """Frames that were inferred and handed out."""
    dropped: int = 0
    """Frames that a newer one replaced before the model was free, or that were waiting at the end."""
    reconnects: int = 0
    """Times that a lost stream came back."""

    @property
    def in_flight(self) -> int:
        """Frames that wait or are being inferred."""
        return self.received - self.processed - self.dropped


class Stream:
    """Detections of a source as they come; iterate once.

    for frame, found in Stream(runtime, source):
        ...
    """

    def __init__(self, runtime: Runtime, source: Source) -> None:
        self.counts = Counts()
        self._runtime = runtime
        self._source = source

    def __iter__(self) -> Generator[tuple[Frame, Detections], None, None]:
        """Frames with their detections until the source ends or the caller stops.

        Raises:
            SourceError: If the source cannot be opened, or is lost and cannot be opened again.
        """
        frames = self._newest() if self._source.is_live else self._every()
        with closing(frames):
            for frame in frames:
                found = self._runtime.infer(frame.image)
                self.counts.processed += 1
                yield frame, found

    def _every(self) -> Generator[Frame, None, None]:
        for frame in self._source:
            self.counts.received += 1
            yield frame

    def _newest(self) -> Generator[Frame, None, None]:
        reader = LatestFrame(self._source, self.counts)
        reader.start()
        try:
            while (frame := reader.take()) is not None:
                yield frame
        finally:
            reader.stop()


class LatestFrame:
    """A slot for one frame, filled by a thread that reads the source as fast as it gives."""

    def __init__(self, source: Source, counts: Counts, *, backoff_s: tuple[float, ...] = BACKOFF_S) -> None:
        self._source = source
        self._counts = counts
        self._backoff_s = backoff_s
        self._slot: Frame | None = None
        self._error: Exception | None = None
        self._is_over = False
        self._start = 0.0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        # A read may block in the driver for seconds, so nobody waits for this thread at exit.
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._start = time.monotonic()
        self._thread.start()

    def take(self) -> Frame | None:
        """Wait for a frame that was not taken before; None when the source is over.

        Raises:
            SourceError: If the source is lost for good.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._is_over)
            if self._slot is not None:
                frame, self._slot = self._slot, None
                return frame
        if self._error is not None:
            raise self._error
        return None

    def stop(self) -> None:
        """End the thread; a frame that still waits counts as dropped."""
        self._stopping.set()
        self._thread.join(_JOIN_S)
        with self._changed:
            if self._slot is not None:
                self._slot = None
                self._counts.dropped += 1

    def _run(self) -> None:
        try:
            self._read_again_and_again()
        except Exception as error:  # raised again in the thread that takes
            self._error = error
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _read_again_and_again(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            before = self._counts.received
            try:
                self._read_once(is_reconnect=attempt > 0)
                return
            except SourceError as error:
                if not self._source.can_reconnect or not self._counts.received:
                    raise
                attempt = 1 if self._counts.received > before else attempt + 1
                pause = self._backoff_s[min(attempt, len(self._backoff_s)) - 1]
                logger.warning("%s; trying again in %g s", error, pause)
                self._stopping.wait(pause)

    def _read_once(self, *, is_reconnect: bool) -> None:
        """Read a fresh handle until it ends, is lost, or we are told to stop."""
        with closing(iter(self._source)) as frames:
            for frame in frames:
                if self._stopping.is_set():
                    return
                self._counts.reconnects += is_reconnect
                is_reconnect = False
                self._put(frame)

    def _put(self, frame: Frame) -> None:
        with self._changed:
            self._counts.received += 1
            self._counts.dropped += self._slot is not None
            # A source begins anew with each reconnection; numbers and times go on.
            self._slot = replace(frame, index=self._counts.received - 1, time_s=time.monotonic() - self._start)
            self._changed.notify_all()

"""Several sources, one model: the loop itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from runtimes.base import Runtime
from runtimes.errors import InferenceError, UsageError, one_line
from runtimes.sources import Frame, ImageSource, LiveSource, Source
from runtimes.stream.process_reader import TICK_S, ProcessReader
from runtimes.stream.readers import JOIN_S, FileReader, LiveReader, Reader
from runtimes.stream.status import Counts, SourceStatus
from runtimes.stream.stillness import Stillness
from runtimes.types import Detections

HANG_S = 30.0
"""Seconds for one frame after which the model counts as hanging."""
FAILURES = 3
"""Maximum number of consecutive frames on which the model may fail; the next failure ends the stream."""
_LEARNING = 0.2
"""Weight of the last frame in the average inference time."""
_LEAD_S = 0.006
"""Seconds before a model is free at which the next frame is requested: scaling and transfer of a 1080p frame take this
long."""

logger = logging.getLogger(__name__)


class Job(NamedTuple):
    """A frame on its way through the model."""

    number: int
    """Sequence number; frames are handed out in the order in which they were taken."""
    reader: Reader
    frame: Frame


class Result(NamedTuple):
    """A frame on its way out."""

    reader: Reader
    frame: Frame
    found: Detections
    is_still: bool = False
    """Whether the detections are those of an earlier frame, because nothing has moved."""


class Stream:
    """Detections of one or several sources as they come; iterate once.

    for frame, found in Stream(runtime, source):
        ...

    A thread per source reads, one thread infers, and the caller draws and writes: the three overlap, and none keeps
    more than one frame (a few, of a file) for the next. Sources take turns.
    """

    def __init__(
        self,
        runtime: Runtime | Sequence[Runtime],
        sources: Source | Mapping[str, Source] | Sequence[Source],
        *,
        is_patient: bool = False,
        hang_s: float = HANG_S,
        spares_still: bool = False,
    ) -> None:
        """Prepare it; nothing is opened before iteration.

        Args:
            runtime: The model. Several runtimes for the same file, each with few threads, infer several frames at once:
                a higher throughput on many cores, with a higher latency. Results stay in order.
            sources: One source, several, or several by name.
            is_patient: Whether to reconnect for ever if a source cannot be opened at first, as after a loss.
            hang_s: Seconds without a result after which the model counts as hanging.
            spares_still: Whether frames of a camera or video without motion since the last inferred one get its
                detections again, without inference.

        Raises:
            UsageError: If there is no source.
        """
        self._runtimes = [runtime] if isinstance(runtime, Runtime) else list(runtime)
        self._hang_s = hang_s
        self._changed = threading.Condition()
        self._readers = [
            make_reader(name, source, self._changed, is_patient=is_patient)
            for name, source in name_sources(sources).items()
        ]
        self._readers[0].is_alone = len(self._readers) == 1
        self.wants_picture: Callable[[str], bool] = lambda name: True
        """Whether any output may use the image of the next frame of the source of this name, besides the model.

        If not, an image in another process stays there, and its `Frame.image` is not available.
        """
        for reader in self._readers:
            reader.source.input_hw = common_input(self._runtimes)
            reader.wants_picture = partial(self._wants_picture, reader)
            if spares_still and not isinstance(reader.source, ImageSource):
                reader.stillness = Stillness()
        self._turn = 0
        self._result: Result | None = None
        self._error: Exception | None = None
        self._failures = 0
        self._taken = self._given = 0
        self._pace_s = 0.0
        """Recent average inference time."""
        self._busy_since: dict[int, float] = {}
        """Job -> time since when it is being inferred."""
        self._is_stopping = False
        self._workers = [
            threading.Thread(target=self._work, args=(runtime,), name="inference", daemon=True)
            for runtime in self._runtimes
        ]

    def __iter__(self) -> Generator[tuple[Frame, Detections], None, None]:
        """Frames with their detections until the last source ends, `stop` is called, or the caller stops iterating.

        Raises:
            SourceError: At the end of all sources, if one could not be opened, or was lost for good.
            InferenceError: If the model hangs, or fails repeatedly.
        """
        try:
            for reader in self._readers:
                reader.start()
            for worker in self._workers:
                worker.start()
            while (result := self._next_result()) is not None:
                yield result.frame, result.found
        finally:
            self._finish()

    @property
    def sources(self) -> dict[str, Source]:
        """Name -> source."""
        return {reader.name: reader.source for reader in self._readers}

    def status(self) -> tuple[SourceStatus, ...]:
        """A snapshot of all sources; from any thread."""
        with self._changed:
            return tuple(reader.status() for reader in self._readers)

    @property
    def counts(self) -> Counts:
        """Frame counts of all sources together; callable from any thread."""
        return Counts.sum(self.status())

    @property
    def is_hanging(self) -> bool:
        """Whether the model takes longer for a frame than allowed."""
        return any(time.monotonic() - since > self._hang_s for since in list(self._busy_since.values()))

    @property
    def is_abandoned(self) -> bool:
        """Whether the iteration has ended while the model still hangs; the process should end without cleanup."""
        return self._is_stopping and any(worker.is_alive() for worker in self._workers)

    def pause(self, name: str, is_paused: bool = True) -> None:
        """Pause or resume a source; callable from any thread.

        Raises:
            UsageError: If no source has this name.
        """
        with self._changed:
            for reader in self._readers:
                if reader.name == name:
                    return reader.pause(is_paused)
            names = ", ".join(reader.name for reader in self._readers)
        raise UsageError(f"no source is called {name!r}; the sources are {names}")

    def stop(self) -> None:
        """End the iteration soon; callable from any thread or a signal handler."""
        self._is_stopping = True
        if self._changed.acquire(blocking=False):
            self._changed.notify_all()
            self._changed.release()

    def _wants_picture(self, reader: Reader) -> bool:
        return reader.source.input_hw is None or self.wants_picture(reader.name)

    def _next_result(self) -> Result | None:
        """Wait for an inferred frame; None when there will be no more."""
        with self._changed:
            while not self._is_stopping:
                if self._error is not None:
                    raise self._error
                if self._result is not None:
                    result, self._result = self._result, None
                    result.reader.ledger.hand_out(is_still=result.is_still)
                    self._changed.notify_all()
                    return result
                if not any(worker.is_alive() for worker in self._workers):
                    self._raise_source_error()
                    return None
                if self.is_hanging:
                    raise InferenceError(f"no result from the model within {self._hang_s:g} s; start again")
                self._changed.wait(TICK_S)
        return None

    def _raise_source_error(self) -> None:
        for reader in self._readers:
            if reader.error is not None:
                raise reader.error

    def _work(self, runtime: Runtime) -> None:
        """Infer one frame after another; the thread of a model."""
        while (job := self._next_job()) is not None:
            start = time.monotonic()
            try:
                result: Result | Exception = self._infer(runtime, job)
            except Exception as error:
                result = error
            with self._changed:
                del self._busy_since[job.number]
                self._pace_s += _LEARNING * (time.monotonic() - start - self._pace_s)
                self._wait_for_turn(job)
                if isinstance(result, Exception):
                    self._fail(job, result)
                else:
                    self._deliver(result)
        with self._changed:
            self._changed.notify_all()

    def _infer(self, runtime: Runtime, job: Job) -> Result:
        """The detections of a frame: from the model, or those of an earlier frame if nothing has moved since."""
        stillness = job.reader.stillness
        if stillness is None:
            return Result(job.reader, job.frame, infer(runtime, job.frame))
        blocks = stillness.measure(job.frame, runtime.card.input_size_hw)
        with self._changed:
            known = stillness.recall(blocks)
        if known is not None:
            return Result(job.reader, job.frame, known, is_still=True)
        found = infer(runtime, job.frame)
        with self._changed:
            stillness.remember(job.number, blocks, found)
        return Result(job.reader, job.frame, found)

    def _next_job(self) -> Job | None:
        """Wait for a frame of the source whose turn it is; None at the end of all sources or after `stop`."""
        with self._changed:
            while not (self._is_stopping or self._error):
                if (reader := self._whose_turn()) is not None:
                    job = Job(self._taken, reader, reader.take())
                    self._taken += 1
                    self._busy_since[job.number] = time.monotonic()
                    reader.ledger.running += 1
                    self._forecast()
                    return job
                if all(reader.is_over for reader in self._readers):
                    break
                for reader in self._readers:
                    reader.prepare()
                self._changed.wait(TICK_S)
        return None

    def _forecast(self) -> None:
        """Make the next source convert its newest frame just before a model is free, under the lock."""
        delay_s = self._pace_s / len(self._runtimes) - _LEAD_S
        if delay_s > 0:
            self._readers[self._turn % len(self._readers)].prepare(delay_s)

    def _whose_turn(self) -> Reader | None:
        """The next source, in turn, that has a frame."""
        count = len(self._readers)
        for step in range(count):
            index = (self._turn + step) % count
            if self._readers[index].has_frame:
                self._turn = index + 1
                return self._readers[index]
        return None

    def _wait_for_turn(self, job: Job) -> None:
        """Wait until the frames before this one are handed out, under the lock."""
        while job.number != self._given and not self._is_stopping:
            self._changed.wait(TICK_S)

    def _fail(self, job: Job, error: Exception) -> None:
        """Drop the frame, under the lock; end the stream after too many failures."""
        logger.error("%s, frame %d: %s", job.reader.name, job.frame.index, one_line(error))
        if not self._is_stopping:
            job.reader.ledger.fail("failed")
        self._given += 1
        self._failures += 1
        if self._failures > FAILURES:
            reason = f"the model failed on {self._failures} consecutive frames: {one_line(error)}"
            self._error = InferenceError(reason)
            self._error.__cause__ = error
        self._changed.notify_all()

    def _deliver(self, result: Result) -> None:
        """Wait, under the lock, until the caller has taken the frame, so that the next one is fresh."""
        self._failures = 0
        while self._result is not None and not self._is_stopping:
            self._changed.wait(TICK_S)
        self._result = result
        self._given += 1
        self._changed.notify_all()
        while self._result is result and not self._is_stopping:
            self._changed.wait(TICK_S)

    def _finish(self) -> None:
        """End all threads; frames in flight are dropped."""
        self.stop()
        for reader in self._readers:
            reader.halt()
        for reader in self._readers:
            reader.stop()
        deadline = time.monotonic() + JOIN_S
        for worker in self._workers:
            if worker.ident is not None:
                worker.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._result = None
            for reader in self._readers:
                while reader.ledger.running:
                    reader.ledger.fail("end")


def infer(runtime: Runtime, frame: Frame) -> Detections:
    """Detect objects in a frame.

    Raises:
        InferenceError: If the model returns values that are not numbers.
        Exception: Exception of the runtime.
    """
    if frame.small is not None and runtime.takes_resized:
        found = runtime.infer_resized(frame.small, frame.size_hw)
    else:
        found = runtime.infer(frame.image)
    if not np.isfinite(found.boxes_xyxy).all():
        raise InferenceError("the model returns boxes with NaN or infinite values; the file may be damaged")
    return found


def common_input(runtimes: Sequence[Runtime]) -> tuple[int, int] | None:
    """Height and width of the input of all models; None if one model prepares frames in its own way."""
    sizes = {runtime.card.input_size_hw if runtime.takes_resized else None for runtime in runtimes}
    return sizes.pop() if len(sizes) == 1 else None


def make_reader(name: str, source: Source, changed: threading.Condition, *, is_patient: bool) -> Reader:
    """The reader for this kind of source."""
    if isinstance(source, LiveSource):
        return ProcessReader(name, source, changed, is_patient=is_patient)
    return (LiveReader if source.is_live else FileReader)(name, source, changed, is_patient=is_patient)


def name_sources(sources: Source | Mapping[str, Source] | Sequence[Source]) -> dict[str, Source]:
    """Sources by name; those without a name get their description, numbered if two are equal.

    Raises:
        UsageError: If there is none.
    """
    if isinstance(sources, Source):
        sources = [sources]
    if not sources:
        raise UsageError("expected at least one source, got none")
    if isinstance(sources, Mapping):
        return dict(sources)
    named: dict[str, Source] = {}
    for source in sources:
        name, number = source.name, 1
        while name in named:
            number += 1
            name = f"{source.name} ({number})"
        named[name] = source
    return named

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
"""A model that needs longer than this for one frame hangs."""
FAILURES = 3
"""The model may fail on so many frames one after the other; the next failure ends the stream."""
_LEARNING = 0.2
"""Weight of the last frame in the average time of the model."""
_LEAD_S = 0.006
"""How long before a model is free the next frame is asked for: scaling 1080p and bringing it over takes this."""

logger = logging.getLogger(__name__)


class Job(NamedTuple):
    """A frame on its way through the model."""

    number: int
    """In the order in which frames were taken, which is the order in which they are handed out."""
    reader: Reader
    frame: Frame


class Result(NamedTuple):
    """A frame on its way out."""

    reader: Reader
    frame: Frame
    found: Detections
    is_still: bool = False
    """Whether the detections are those of an earlier frame, since nothing had moved."""


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
        """Make one; nothing is opened before it is iterated.

        Args:
            runtime: The model. Several, opened from the same file with few threads each, infer several frames at once:
                more frames per second where cores are plenty, each a little later. Results stay in order.
            sources: One source, several, or several by name.
            is_patient: Whether a source that cannot be opened at first is tried again for ever, as one that was lost.
            hang_s: After how many seconds without an answer the model counts as hanging.
            spares_still: Whether frames of a camera or video in which nothing moved since the last inferred one get its
                answer again, without the model.

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
        """Whether somebody may look at the picture of the next frame of the source of this name, besides the model. A
        picture that another process has, and that nobody wants, stays there: its `Frame.image` cannot be had."""
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
        """How long the model takes for a frame, on average of late."""
        self._busy_since: dict[int, float] = {}
        """Job -> since when the model has been at it."""
        self._is_stopping = False
        self._workers = [
            threading.Thread(target=self._work, args=(runtime,), name="inference", daemon=True)
            for runtime in self._runtimes
        ]

    def __iter__(self) -> Generator[tuple[Frame, Detections], None, None]:
        """Frames with their detections until the last source ends, `stop` is called, or the caller breaks off.

        Raises:
            SourceError: When all sources are over, if one could not be opened, or was lost for good.
            InferenceError: If the model hangs, or fails again and again.
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
        """What became of the frames of all sources together; from any thread."""
        return Counts.sum(self.status())

    @property
    def is_hanging(self) -> bool:
        """Whether the model has been at one frame for longer than it may."""
        return any(time.monotonic() - since > self._hang_s for since in list(self._busy_since.values()))

    @property
    def is_abandoned(self) -> bool:
        """Whether the iteration has ended while the model still hangs; the process should end without tidying up."""
        return self._is_stopping and any(worker.is_alive() for worker in self._workers)

    def pause(self, name: str, is_paused: bool = True) -> None:
        """Stop or go on taking the frames of a source; from any thread.

        Raises:
            UsageError: If no source has this name.
        """
        with self._changed:
            for reader in self._readers:
                if reader.name == name:
                    return reader.pause(is_paused)
            names = ", ".join(reader.name for reader in self._readers)
        raise UsageError(f"no source is called {name!r}; there is {names}")

    def stop(self) -> None:
        """End the iteration soon; from any thread or a signal handler."""
        self._is_stopping = True
        if self._changed.acquire(blocking=False):
            self._changed.notify_all()
            self._changed.release()

    def _wants_picture(self, reader: Reader) -> bool:
        return reader.source.input_hw is None or self.wants_picture(reader.name)

    def _next_result(self) -> Result | None:
        """Wait for a frame that was inferred; None when there will be none any more."""
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
                    raise InferenceError(f"the model gave no answer within {self._hang_s:g} s; start again")
                self._changed.wait(TICK_S)
        return None

    def _raise_source_error(self) -> None:
        for reader in self._readers:
            if reader.error is not None:
                raise reader.error

    def _work(self, runtime: Runtime) -> None:
        """Infer one frame after the other; the thread of a model."""
        while (job := self._next_job()) is not None:
            start = time.monotonic()
            try:
                result: Result | Exception = self._answer(runtime, job)
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

    def _answer(self, runtime: Runtime, job: Job) -> Result:
        """What is found in a frame: by the model, or what was found before if nothing has moved since."""
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
        """Wait for a frame of the source whose turn it is; None when all are over or we are told to stop."""
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
        """Have the next source turn its newest frame into RGB just before a model is free, under the lock."""
        delay_s = self._pace_s / len(self._runtimes) - _LEAD_S
        if delay_s > 0:
            self._readers[self._turn % len(self._readers)].prepare(delay_s)

    def _whose_turn(self) -> Reader | None:
        """The next source, round about, that has a frame."""
        count = len(self._readers)
        for step in range(count):
            index = (self._turn + step) % count
            if self._readers[index].has_frame:
                self._turn = index + 1
                return self._readers[index]
        return None

    def _wait_for_turn(self, job: Job) -> None:
        """Wait until the frames before this one are out, under the lock."""
        while job.number != self._given and not self._is_stopping:
            self._changed.wait(TICK_S)

    def _fail(self, job: Job, error: Exception) -> None:
        """Write the frame off, under the lock; end the stream when it was one failure too many."""
        logger.error("%s, frame %d: %s", job.reader.name, job.frame.index, one_line(error))
        if not self._is_stopping:
            job.reader.ledger.fail("failed")
        self._given += 1
        self._failures += 1
        if self._failures > FAILURES:
            reason = f"the model failed on {self._failures} frames one after the other: {one_line(error)}"
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
        """End all threads; frames that are still under way are dropped."""
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
    """Find objects in a frame.

    Raises:
        InferenceError: If the model answers with what is no number.
        Exception: What the runtime raises.
    """
    if frame.small is not None and runtime.takes_resized:
        found = runtime.infer_resized(frame.small, frame.size_hw)
    else:
        found = runtime.infer(frame.image)
    if not np.isfinite(found.boxes_xyxy).all():
        raise InferenceError("the model answers with boxes that are no numbers; is the file damaged?")
    return found


def common_input(runtimes: Sequence[Runtime]) -> tuple[int, int] | None:
    """Height and width of the input of all models; None if one looks at frames in another way."""
    sizes = {runtime.card.input_size_hw if runtime.takes_resized else None for runtime in runtimes}
    return sizes.pop() if len(sizes) == 1 else None


def make_reader(name: str, source: Source, changed: threading.Condition, *, is_patient: bool) -> Reader:
    """What reads this kind of source."""
    if isinstance(source, LiveSource):
        return ProcessReader(name, source, changed, is_patient=is_patient)
    return (LiveReader if source.is_live else FileReader)(name, source, changed, is_patient=is_patient)


def name_sources(sources: Source | Mapping[str, Source] | Sequence[Source]) -> dict[str, Source]:
    """Sources by name; those without one go by what they are, numbered where two are the same.

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

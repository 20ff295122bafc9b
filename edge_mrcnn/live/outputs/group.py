"""All outputs of a loop; one that fails is switched off, and the others continue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from edge_mrcnn.live.outputs.base import Output, Tally
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.scenes import SceneEvent
from runtimes.errors import one_line
from runtimes.redaction import redact

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Outputs:
    """Several outputs; usable from any thread."""

    def __init__(self, outputs: Iterable[Output] = ()) -> None:
        self.failures: dict[str, str] = {}
        """Name of each incomplete output -> reason, in words."""
        self._outputs: list[Output] = []
        self._lock = threading.Lock()
        for output in outputs:
            self.add(output)

    def add(self, output: Output) -> None:
        """Add an output."""
        output.name = output.name or type(output).__name__
        with self._lock:
            self._outputs.append(output)

    def put(self, result: LiveResult) -> None:
        """Pass the result of a frame to each; but not to an output that was just added and needs an image that was not
        kept."""
        frame = result.frame

        def give(output: Output) -> None:
            if frame.pixels.is_kept or not output.wants_picture(frame.source):
                output.put(result)

        self._each(give)

    def put_event(self, event: SceneEvent) -> None:
        """Pass an event to each."""
        self._each(lambda output: output.put_event(event))

    def tick(self) -> None:
        """Call `tick` of each."""
        self._each(lambda output: output.tick())

    def tallies(self) -> list[Tally]:
        """The counters of all outputs."""
        return self._collect(lambda output: output.tallies())

    def greetings(self) -> list[str]:
        """Lines for the user at start."""
        return self._collect(lambda output: output.greetings())

    def remarks(self) -> list[str]:
        """Lines for the user at the end."""
        return self._collect(lambda output: output.remarks())

    def written(self) -> list[str]:
        """Complete files that were written."""
        return self._collect(lambda output: () if output.failure else output.written())

    @property
    def needs_drawing(self) -> bool:
        """Whether any output uses every picture in full size."""
        return any(output.needs_drawing for output in self._outputs)

    @property
    def keeps_frames(self) -> bool:
        """Whether any output reads the pixels of frames without drawing."""
        return any(output.keeps_frames for output in self._outputs)

    def wants_picture(self, source: str) -> bool:
        """Whether any output may use the image of the next frame of a source."""
        try:
            return any(output.wants_picture(source) for output in list(self._outputs))
        except Exception:  # An exception is handled later, without holding the lock of the stream.
            return True

    @property
    def is_finished(self) -> bool:
        """Whether the user of an output has stopped the loop."""
        return any(output.is_finished for output in self._outputs)

    @property
    def is_hanging(self) -> bool:
        """Whether an output could not be closed."""
        return any(output.is_hanging for output in self._outputs)

    def close(self, limit_s: float | None = None) -> None:
        """Close each, the last first, within a number of seconds if given."""
        with self._lock:
            outputs = self._outputs[::-1]
        for output in outputs:
            output.patience_s = limit_s
            self._try(output, lambda output: output.close())
        for output in self._outputs:
            if output.failure:
                self.failures[output.name] = output.failure

    def switch_off(self, name: str, error: BaseException) -> None:
        """Log that an output has failed."""
        reason = redact(one_line(error))
        self.failures[name] = reason
        logger.error("%s stopped, everything else continues: %s", name, reason)

    def _each(self, act: Callable[[Output], None]) -> None:
        for output in list(self._outputs):
            self._try(output, act)

    def _collect(self, act: Callable[[Output], Iterable[T]]) -> list[T]:
        collected: list[T] = []
        for output in list(self._outputs):
            self._try(output, lambda output: collected.extend(act(output)))
        return collected

    def _try(self, output: Output, act: Callable[[Output], None]) -> None:
        """Call a function of an output; any exception, also a panic of foreign code, switches it off."""
        try:
            if output.error is not None:
                raise output.error
            act(output)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._drop(output, error)

    def _drop(self, output: Output, error: BaseException) -> None:
        with self._lock:
            if output not in self._outputs:
                return
            self._outputs.remove(output)
        self.switch_off(output.name, error)
        try:
            output.patience_s = 0.0
            output.close()
        except KeyboardInterrupt:
            raise
        except BaseException as second:
            logger.debug("%s: could not be closed: %s", output.name, redact(one_line(second)))

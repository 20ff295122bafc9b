"""All outputs of a loop together; one that fails is switched off, and everything else goes on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from edge_mrcnn.live.outputs.base import Output, Tally
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.scenes import Happening
from runtimes.errors import one_line
from runtimes.redaction import redact

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Outputs:
    """Several outputs; from any thread."""

    def __init__(self, outputs: Iterable[Output] = ()) -> None:
        self.failures: dict[str, str] = {}
        """Name of each output that is not complete -> why, in words."""
        self._outputs: list[Output] = []
        self._lock = threading.Lock()
        for output in outputs:
            self.add(output)

    def add(self, output: Output) -> None:
        """Take one more."""
        output.name = output.name or type(output).__name__
        with self._lock:
            self._outputs.append(output)

    def put(self, result: LiveResult) -> None:
        """Give the result of a frame to each; not to one that has just begun and wants a picture that was not kept."""
        frame = result.frame

        def give(output: Output) -> None:
            if frame.pixels.is_kept or not output.wants_picture(frame.source):
                output.put(result)

        self._each(give)

    def put_happening(self, happening: Happening) -> None:
        """Tell each what happened."""
        self._each(lambda output: output.put_happening(happening))

    def tick(self) -> None:
        """Tell each that a second has passed."""
        self._each(lambda output: output.tick())

    def tallies(self) -> list[Tally]:
        """The counters of all."""
        return self._collect(lambda output: output.tallies())

    def greetings(self) -> list[str]:
        """Lines for the user at the start."""
        return self._collect(lambda output: output.greetings())

    def remarks(self) -> list[str]:
        """Lines for the user at the end."""
        return self._collect(lambda output: output.remarks())

    def written(self) -> list[str]:
        """What was written and is complete."""
        return self._collect(lambda output: () if output.failure else output.written())

    @property
    def needs_drawing(self) -> bool:
        """Whether one looks at every picture in full size."""
        return any(output.needs_drawing for output in self._outputs)

    @property
    def keeps_frames(self) -> bool:
        """Whether one reads the pixels of a frame, other than drawn ones."""
        return any(output.keeps_frames for output in self._outputs)

    def wants_picture(self, source: str) -> bool:
        """Whether one may look at the picture of the next frame of a source."""
        try:
            return any(output.wants_picture(source) for output in list(self._outputs))
        except Exception:  # it is found out and switched off where nobody waits for a lock
            return True

    @property
    def is_finished(self) -> bool:
        """Whether the user of one wants the loop to end."""
        return any(output.is_finished for output in self._outputs)

    @property
    def is_hanging(self) -> bool:
        """Whether one could not be closed."""
        return any(output.is_hanging for output in self._outputs)

    def close(self, limit_s: float | None = None) -> None:
        """Finish each, the last first, waiting for so many seconds at most if given."""
        with self._lock:
            outputs = self._outputs[::-1]
        for output in outputs:
            output.patience_s = limit_s
            self._try(output, lambda output: output.close())
        for output in self._outputs:
            if output.failure:
                self.failures[output.name] = output.failure

    def switch_off(self, name: str, error: BaseException) -> None:
        """Note and say that an output is lost."""
        reason = redact(one_line(error))
        self.failures[name] = reason
        logger.error("%s stopped, everything else goes on: %s", name, reason)

    def _each(self, act: Callable[[Output], None]) -> None:
        for output in list(self._outputs):
            self._try(output, act)

    def _collect(self, act: Callable[[Output], Iterable[T]]) -> list[T]:
        collected: list[T] = []
        for output in list(self._outputs):
            self._try(output, lambda output: collected.extend(act(output)))
        return collected

    def _try(self, output: Output, act: Callable[[Output], None]) -> None:
        """Do something with an output that may raise anything, a panic of foreign code included."""
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
            logger.debug("%s: could not be closed either: %s", output.name, redact(one_line(second)))

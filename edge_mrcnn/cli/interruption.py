"""A command that is told to end: one line, no traceback, whatever it is at."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edge_mrcnn.live.signals import ENDS


class Interruption:
    """Ends a command by KeyboardInterrupt, and remembers the signal: code in between may make another error of it."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        """The signal handler."""
        self.number = number
        if hasattr(signal, "SIGCHLD"):  # processes that load data end, too; torch would call that an error
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise KeyboardInterrupt

    def begin(self) -> None:
        """Take over from the handlers that end the process at once; everything is imported that can be at first."""
        for number in ENDS:
            handler = signal.getsignal(number)
            if getattr(handler, "__name__", "") == "end_at_once":
                signal.signal(number, self)
        if self in map(signal.getsignal, ENDS):
            sys.unraisablehook = self._report

    def _report(self, unraisable: sys.UnraisableHookArgs) -> None:
        """A KeyboardInterrupt that came in a place that cannot raise is not worth a traceback."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)


interruption = Interruption()


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Put the handlers back at the end, so that a signal while the interpreter shuts down is one line too."""
    previous = {number: signal.getsignal(number) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def came_of_interrupt(error: BaseException | None) -> bool:
    """Whether an error was a signal before: an extension that is interrupted while it is imported makes one of it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False

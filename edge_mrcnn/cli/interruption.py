"""Interruption of a command: one line, no traceback, at any point."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edge_mrcnn.live.signals import ENDS


class Interruption:
    """Ends a command by KeyboardInterrupt, and stores the signal, because code in between may turn it into another
    error."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        """The signal handler."""
        self.number = number
        if hasattr(signal, "SIGCHLD"):  # data loading processes end as well; torch would report that as an error
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise KeyboardInterrupt

    def begin(self) -> None:
        """Replace the handlers that end the process at once, now that everything is imported."""
        for number in ENDS:
            handler = signal.getsignal(number)
            if getattr(handler, "__name__", "") == "end_at_once":
                signal.signal(number, self)
        if self in map(signal.getsignal, ENDS):
            sys.unraisablehook = self._report

    def _report(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Ignore a KeyboardInterrupt raised in a place that cannot raise."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)


interruption = Interruption()


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Restore the handlers at the end, so that a signal during the interpreter's shutdown is one line as well."""
    previous = {number: signal.getsignal(number) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def came_of_interrupt(error: BaseException | None) -> bool:
    """Whether an error was caused by a signal: an extension that is interrupted during its import raises another
    one."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False

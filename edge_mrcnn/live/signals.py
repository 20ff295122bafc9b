"""End of a loop by a signal of the user or the service manager."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

ENDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a run."""


class Signals:
    """SIGINT, SIGTERM and SIGHUP: the first ends the loop with all files complete, the second ends the process."""

    def __init__(self) -> None:
        self.count = 0
        self.stop: Callable[[], None] | None = None
        """Function that ends the loop; while there is none, a signal raises KeyboardInterrupt."""

    def __call__(self, number: int, frame: object) -> None:
        """The signal handler."""
        self.count += 1
        if self.count > 1:
            leave(128 + number)
        if self.stop is None:
            raise KeyboardInterrupt
        self.stop()


@contextmanager
def catch_signals() -> Iterator[Signals]:
    """Handle SIGTERM and SIGHUP like Ctrl-C, so that a service manager or a lost terminal leaves complete files.

    A signal that the parent process ignores, as nohup does with SIGHUP, stays ignored.
    """
    signals = Signals()
    previous = {number: signal.signal(number, signals) for number in ENDS if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leave(code: int) -> NoReturn:
    """End the process without waiting for anything that hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

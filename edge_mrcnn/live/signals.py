"""How a loop ends when the user or a service manager says so."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class Signals:
    """SIGINT and SIGTERM: the first lets the loop end with everything finished, the second ends the process at once."""

    def __init__(self) -> None:
        self.count = 0
        self.stop: Callable[[], None] | None = None
        """What ends the loop; before there is one, a signal raises KeyboardInterrupt."""

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
    """Handle SIGTERM as Ctrl-C, so that a service manager leaves finished files behind."""
    signals = Signals()
    previous = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
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

"""Work that the camera loop must not wait for: a thread with a short queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 8
"""Items that wait at most."""
CLOSE_S = 2.0
"""How long `close` waits for the work that is left."""


class Background(Generic[T]):
    """Does something with each item in another thread, in order."""

    def __init__(self, act: Callable[[T], None], *, name: str) -> None:
        """Start.

        Args:
            act: What to do with an item.
            name: Name of the thread.
        """
        self.skipped = 0
        """Items that were left out because the thread could not follow."""
        self._act = act
        self._error: Exception | None = None
        self._is_told = False
        self._queue: queue.Queue[T | None] = queue.Queue(DEPTH)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T, *, may_skip: bool) -> None:
        """Hand over an item; where the thread cannot follow, leave it out or wait.

        Raises:
            Exception: What the action raised for an earlier item.
        """
        if may_skip and self._queue.full():
            self.skipped += 1
            return
        while self._error is None:
            try:
                return self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
        self._is_told = True
        raise self._error

    def close(self) -> None:
        """Finish what waits, within limits.

        Raises:
            Exception: What the action raised for an earlier item, unless `put` said so already.
        """
        if self._thread.is_alive():
            self._end()
        if self._error is not None and not self._is_told:
            self._is_told = True
            raise self._error

    def _end(self) -> None:
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._act(item)
        except Exception as error:  # raised again in the thread that puts
            self._error = error

"""Work that the camera loop must not wait for: a thread with a short queue."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 8
"""Items that wait at most."""
_TICK_S = 0.2


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
                return self._queue.put(item, timeout=_TICK_S)
            except queue.Full:
                continue
        self._is_told = True
        raise self._error

    def close(self, limit_s: float | None = None) -> bool:
        """Finish what waits.

        Args:
            limit_s: Longest wait in seconds; as long as it takes if None.

        Returns:
            Whether the thread has ended; else it hangs in what it does, which nobody else must touch.

        Raises:
            Exception: What the action raised for an earlier item, unless `put` said so already.
        """
        deadline = None if limit_s is None else time.monotonic() + limit_s
        if self._thread.is_alive():
            self._end(deadline)
        if self._error is not None and not self._is_told:
            self._is_told = True
            raise self._error
        return not self._thread.is_alive()

    def _end(self, deadline: float | None) -> None:
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=_TICK_S)
                break
            except queue.Full:
                if deadline is not None and time.monotonic() > deadline:
                    return
        self._thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._act(item)
        except Exception as error:  # raised again in the thread that puts
            self._error = error

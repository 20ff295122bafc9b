"""Work that must not delay the camera loop: a thread with a short queue."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

DEPTH = 8
"""Maximum number of waiting items."""
_TICK_S = 0.2


class Background(Generic[T]):
    """Processes items in another thread, in order."""

    def __init__(self, act: Callable[[T], None], *, name: str) -> None:
        """Start the thread.

        Args:
            act: Function that processes an item.
            name: Name of the thread.
        """
        self.skipped = 0
        """Number of items that were skipped because the thread was too slow."""
        self._act = act
        self._error: Exception | None = None
        self._is_told = False
        self._queue: queue.Queue[T | None] = queue.Queue(DEPTH)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T, *, may_skip: bool) -> None:
        """Queue an item; if the queue is full, skip it or wait.

        Raises:
            Exception: Exception of the function for an earlier item.
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
        """Process the waiting items and end the thread.

        Args:
            limit_s: Maximum seconds to wait; no limit if None.

        Returns:
            Whether the thread has ended; else it hangs, and its files must not be touched.

        Raises:
            Exception: Exception of the function for an earlier item, unless `put` has raised it.
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
        except Exception as error:  # raised again in the thread that calls `put`
            self._error = error

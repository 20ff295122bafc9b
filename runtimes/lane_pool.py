"""Work in flight: calls wait for an idle lane of a model and return futures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Generic, TypeVar

Lane = TypeVar("Lane")
Result = TypeVar("Result")


class LanePool(Generic[Lane]):
    """One thread per lane; each lane does one thing at a time."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._idle: SimpleQueue[Lane] = SimpleQueue()
        for lane in lanes:
            self._idle.put(lane)
        self._threads = ThreadPoolExecutor(len(lanes), thread_name_prefix="edge-mrcnn-lane")

    def submit(self, work: Callable[[Lane], Result]) -> Future[Result]:
        """Run a function on the next idle lane; the future gets its result or exception."""

        def take_lane() -> Result:
            lane = self._idle.get()
            try:
                return work(lane)
            finally:
                self._idle.put(lane)

        return self._threads.submit(take_lane)

    def close(self) -> None:
        """Complete running work; cancel waiting work."""
        self._threads.shutdown(cancel_futures=True)

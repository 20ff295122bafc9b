"""A stream that runs in a thread while a test changes its sources."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
from stream_servers import age_s

from runtimes import FakeRuntime
from runtimes.sources import open_sources
from runtimes.stream import Stream


class Watched:
    """A stream that runs in a thread; each snapshot of its accounts is checked."""

    def __init__(self, *texts: str, latency_s: float = 0.0, is_patient: bool = True, stamped: bool = True) -> None:
        self.sources = open_sources(texts)
        self.stream = Stream(FakeRuntime(latency_s=latency_s), self.sources, is_patient=is_patient)
        self.frames: list[tuple[float, str, float, tuple[int, ...]]] = []
        """Time, source, age in seconds and shape of each frame that was handed out."""
        self.states: list[tuple[float, str, str]] = []
        """Time, source and state, at each change."""
        self.error: Exception | None = None
        self._stamped = stamped
        self._is_over = False
        self._threads = [threading.Thread(target=run) for run in (self._consume, self._sample)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stream.stop()
        for thread in self._threads:
            thread.join()
        self.check()
        assert all(status.in_flight == 0 for status in self.stream.status())

    def _consume(self) -> None:
        try:
            for frame, _ in self.stream:
                age = age_s(frame.image) if self._stamped else time.monotonic() - frame.arrived
                self.frames.append((time.monotonic(), frame.source, age, frame.image.shape))
        except Exception as error:  # looked at by the test
            self.error = error
        self._is_over = True

    def _sample(self) -> None:
        known: dict[str, str] = {}
        while not self._is_over:
            for status in self.check():
                if known.get(status.name) != status.state:
                    known[status.name] = status.state
                    self.states.append((time.monotonic(), status.name, status.state))
            time.sleep(0.02)

    def check(self):
        """A snapshot; received = processed + dropped + in flight."""
        statuses = self.stream.status()
        for status in statuses:
            assert status.received == status.processed + sum(status.dropped.values()) + status.in_flight, status
        return statuses

    def wait_state(self, *states: str, name: str = "", timeout_s: float = 10.0) -> float:
        """Seconds until a source is in one of these states."""
        return self._wait(lambda s: s.state in states, name, timeout_s, f"{states}")

    def wait_frame(self, name: str = "", timeout_s: float = 10.0) -> float:
        """Seconds until a frame is handed out that was sent after this call."""
        start, seen = time.monotonic(), len(self.frames)
        while time.monotonic() - start < timeout_s:
            for moment, source, age, _ in self.frames[seen:]:
                if name in source and moment - age > start - 0.02:
                    return moment - start
            time.sleep(0.01)
        raise AssertionError(f"no fresh frame within {timeout_s} s: {self.stream.status()}")

    def _wait(self, holds, name: str, timeout_s: float, what: str) -> float:
        start = time.monotonic()
        while time.monotonic() - start < timeout_s:
            if any(holds(status) for status in self.stream.status() if name in status.name):
                return time.monotonic() - start
            time.sleep(0.01)
        raise AssertionError(f"not {what} within {timeout_s} s: {self.stream.status()}")

    def ages(self, name: str = "") -> np.ndarray:
        """Ages of the frames of a source in milliseconds, the first second left out."""
        first = self.frames[0][0]
        rows = [age for moment, source, age, _ in self.frames if name in source and moment > first + 1]
        return 1e3 * np.array(rows)

    def rate(self, name: str, start: float, end: float) -> float:
        """Frames of a source per second between two times."""
        return sum(name in source and start <= moment < end for moment, source, *_ in self.frames) / (end - start)


def resources() -> dict[str, float]:
    """Memory in MB, descriptors and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "fds": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }

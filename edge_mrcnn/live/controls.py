"""Settings that users may change while the loop runs: the score threshold, and the pause of each source."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Controls:
    """Settings that the page writes and the loop reads; usable from any thread."""

    def __init__(self, conf: float, pause: Callable[[str, bool], None]) -> None:
        """Make them.

        Args:
            conf: Score threshold, in [0, 1].
            pause: Function that pauses (true) or resumes a source, by its name.
        """
        self.pause = pause
        self._lock = threading.Lock()
        self._conf = conf

    @property
    def conf(self) -> float:
        """Score threshold, in [0, 1]."""
        with self._lock:
            return self._conf

    @conf.setter
    def conf(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"expected a score from 0 to 1, got {value}")
        with self._lock:
            self._conf = value

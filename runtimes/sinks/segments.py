"""An endless recording: a new file every so many minutes, the oldest deleted when their total size is too large.

"out.mp4" becomes "out-20261121-140000.mp4" and so on, by the local time at which each file begins. Files of earlier
runs with the same name are part of the recording.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import UsageError
from runtimes.sinks.base import Array, Sink
from runtimes.sources import Frame

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Split:
    """How a recording is split."""

    every_s: float
    """Length of each file in seconds, above 0; up to one frame longer."""
    most_bytes: int | None = None
    """Maximum total size of its files, in bytes, above which the oldest are deleted; None for as much as the disk can
    hold."""

    def __post_init__(self) -> None:
        if not self.every_s > 0 or (self.most_bytes is not None and self.most_bytes <= 0):
            raise UsageError(f"expected a length and a size above 0 for the files of a recording, got {self}")


class SegmentSink(Sink):
    """Writes one file after another, each with a sink of its own."""

    def __init__(self, path: Path, split: Split, open_one: Callable[[Path], Sink]) -> None:
        """Start the first file.

        Args:
            path: Folder and name of the recording; the time is added.
            split: When the next file begins, and how much is kept.
            open_one: Opens the sink of a file.
        """
        self._path = path
        self._split = split
        self._open_one = open_one
        self._start_s: float | None = None
        self._file = self._name()
        self._sink: Sink | None = open_one(self._file)

    def write(self, image: Array, frame: Frame) -> None:
        if self._start_s is None:
            self._start_s = frame.time_s
        elif frame.time_s - self._start_s >= self._split.every_s:
            self._begin()
            self._start_s = frame.time_s
        if self._sink is not None:
            self._sink.write(image, frame)

    def written(self) -> list[str]:
        count = len(find_segments(self._path))
        return [f"{self._path.with_stem(f'{self._path.stem}-*')} ({count} files)"] if count else []

    def can_make_room(self) -> bool:
        return bool(self._finished())

    def make_room(self) -> bool:
        """Delete the oldest file, except the current one; returns whether there was one."""
        finished = self._finished()
        if not finished:
            return False
        finished[0].unlink(missing_ok=True)
        logger.info("%s: deleted to make room", finished[0])
        return True

    def close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _finished(self) -> list[Path]:
        return [file for file in find_segments(self._path) if file != self._file]

    def _begin(self) -> None:
        """Complete the file, start the next, and delete files above the maximum size."""
        self.close()
        self._file = self._name()
        self._sink = self._open_one(self._file)
        most = self._split.most_bytes
        while most is not None and sum(file.stat().st_size for file in find_segments(self._path)) > most:
            if not self.make_room():
                break

    def _name(self) -> Path:
        """A name with the current time that no file has yet."""
        now = time.time()
        while True:
            moment = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
            file = self._path.with_stem(f"{self._path.stem}-{moment}")
            if not file.exists():
                return file
            now += 1


def find_segments(path: Path) -> list[Path]:
    """The files of a recording, the oldest first."""
    form = re.compile(re.escape(path.stem) + r"-\d{8}-\d{6}" + re.escape(path.suffix))
    if not path.parent.is_dir():
        return []
    files = (file for file in path.parent.iterdir() if form.fullmatch(file.name))
    # names can go back in time when daylight saving time ends
    return sorted(files, key=lambda file: file.stat().st_mtime_ns)

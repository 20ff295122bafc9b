"""What a sink is, and one that lets detection go on when the disk is full."""

from __future__ import annotations

import logging
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from runtimes.errors import EdgeError, UnavailableError, one_line
from runtimes.sources import Frame

Array = NDArray[Any]

logger = logging.getLogger(__name__)


class Sink(ABC):
    """Takes pictures; a context manager, so that a file is finished whatever happens."""

    @abstractmethod
    def write(self, image: Array, frame: Frame) -> None:
        """Write a (H, W, 3) uint8 RGB picture that was drawn from a frame.

        Raises:
            UnavailableError: If it cannot be written.
        """

    def can_make_room(self) -> bool:
        """Whether it has something old of its own to delete."""
        return False

    def make_room(self) -> bool:
        """Delete something old of its own for something new; whether there was something to delete."""
        return False

    def written(self) -> list[str]:
        """What was written, in words for the user; nothing while there was no picture."""
        return []

    def close(self) -> None:  # noqa: B027  # not abstract: images have nothing to finish
        """Finish what was written; a second call does nothing."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Reserve:
    """How much of a disk recordings leave free: a share of it, but no more than some bytes."""

    share: float = 0.1
    """Share of the disk, in [0, 1]."""
    most_bytes: int = 1 << 30
    """On a large disk so many bytes are enough."""

    def lacking(self, folder: Path) -> str:
        """Why no more must be written there, in words; "" while there is room."""
        usage = shutil.disk_usage(folder)
        limit = min(self.share * usage.total, self.most_bytes)
        if usage.free >= limit:
            return ""
        return f"{usage.free / 1e6:.0f} MB are free, of which {limit / 1e6:.0f} MB are kept"


class GuardedSink(Sink):
    """Stops with one message when its disk is full or has too little room left; what is written stays readable."""

    def __init__(self, sink: Sink, path: Path, reserve: Reserve) -> None:
        """Make one.

        Args:
            sink: What writes.
            path: The file or folder that it writes, for messages and to find the disk.
            reserve: What is left free.

        Raises:
            UnavailableError: If there is too little room at the start.
        """
        self._sink: Sink | None = sink
        self._inner = sink
        self._path = path
        self._folder = next(parent for parent in (path, *path.resolve().parents) if parent.is_dir())
        self._reserve = reserve
        self.is_stopped = False
        """Whether it stopped before its end."""
        # Nothing is deleted before there is something to write.
        if not sink.can_make_room() and (reason := reserve.lacking(self._folder)):
            raise UnavailableError(f"{path}: the disk is nearly full: {reason}; make room, or see --keep-free")

    def written(self) -> list[str]:
        return self._inner.written()

    def write(self, image: Array, frame: Frame) -> None:
        if self._sink is None:
            return
        if reason := self._lacking(self._sink):
            self._stop(f"the disk is nearly full: {reason}")
            return
        try:
            self._sink.write(image, frame)
        except (EdgeError, OSError) as error:
            self._stop(one_line(error).removeprefix(f"{self._path}: "))

    def close(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _lacking(self, sink: Sink) -> str:
        """Why no more must be written, although all that is old was deleted; "" while there is room."""
        while (reason := self._reserve.lacking(self._folder)) and sink.make_room():
            continue
        return reason

    def _stop(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        self.is_stopped = True
        logger.error("%s: recording stopped, detection goes on: %s", self._path, reason)
        try:
            if sink is not None:
                sink.close()
        except (EdgeError, OSError):
            logger.info("%s: its last frames are missing", self._path)

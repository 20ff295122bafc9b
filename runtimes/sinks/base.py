"""Base class of sinks, and a sink that stops recording, but not detection, when the disk is full."""

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
    """Receives images; a context manager, so that a file is completed in any case."""

    @abstractmethod
    def write(self, image: Array, frame: Frame) -> None:
        """Write a (H, W, 3) uint8 RGB image that was drawn from a frame.

        Raises:
            UnavailableError: If it cannot be written.
        """

    def can_make_room(self) -> bool:
        """Whether it has an old file to delete."""
        return False

    def make_room(self) -> bool:
        """Delete an old file; returns whether there was one."""
        return False

    def written(self) -> list[str]:
        """What was written, in words for the user; None without any frame."""
        return []

    def close(self) -> None:  # noqa: B027  # not abstract: images have nothing to finish
        """Complete the output; a second call does nothing."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Reserve:
    """Disk space that recordings leave free: a share of the disk, up to a number of bytes."""

    share: float = 0.1
    """Share of the disk, in [0, 1]."""
    most_bytes: int = 1 << 30
    """Maximum, in bytes, for large disks."""

    def lacking(self, folder: Path) -> str:
        """Why nothing more may be written, in words; "" while there is space."""
        usage = shutil.disk_usage(folder)
        limit = min(self.share * usage.total, self.most_bytes)
        if usage.free >= limit:
            return ""
        return f"{usage.free / 1e6:.0f} MB are free, and {limit / 1e6:.0f} MB must stay free"


class GuardedSink(Sink):
    """Stops with one message when its disk is full or has too little free space; what is written stays readable."""

    def __init__(self, sink: Sink, path: Path, reserve: Reserve) -> None:
        """Make one.

        Args:
            sink: The sink that writes.
            path: The file or folder that it writes, for messages and to find the disk.
            reserve: Disk space that is left free.

        Raises:
            UnavailableError: If there is too little space at the start.
        """
        self._sink: Sink | None = sink
        self._inner = sink
        self._path = path
        self._folder = next(parent for parent in (path, *path.resolve().parents) if parent.is_dir())
        self._reserve = reserve
        self.is_stopped = False
        """Whether it stopped early."""
        # Nothing is deleted before there is something to write.
        if not sink.can_make_room() and (reason := reserve.lacking(self._folder)):
            raise UnavailableError(f"{path}: the disk is nearly full: {reason}; free some space, or lower --keep-free")

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
        """Why nothing more may be written although all old files were deleted; "" while there is space."""
        while (reason := self._reserve.lacking(self._folder)) and sink.make_room():
            continue
        return reason

    def _stop(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        self.is_stopped = True
        logger.error("%s: recording stopped, detection continues: %s", self._path, reason)
        try:
            if sink is not None:
                sink.close()
        except (EdgeError, OSError):
            logger.info("%s: its last frames are missing", self._path)

"""Drawn pictures as image files."""

from __future__ import annotations

from pathlib import Path

import cv2

from runtimes.errors import UnavailableError
from runtimes.output_paths import free_path
from runtimes.sinks.base import Array, Sink
from runtimes.sources import IMAGE_SUFFIXES, Frame, ImageSource


class ImageSink(Sink):
    """A folder that mirrors the folder of the source, or one image file."""

    def __init__(self, path: Path, source: ImageSource, *, overwrite: bool = False) -> None:
        self._path = path
        self._overwrite = overwrite
        self._is_file = path.suffix.lower() in IMAGE_SUFFIXES and source.frame_count == 1
        self._root = source.root
        self._is_begun = False

    def write(self, image: Array, frame: Frame) -> None:
        if not self._is_begun:
            self._path = free_path(self._path, overwrite=self._overwrite)
            self._is_begun = True
        path = self._path if self._is_file else self._path / Path(frame.name).relative_to(self._root)
        write_image(path, image)

    def written(self) -> list[str]:
        return [str(self._path)] if self._is_begun else []


def write_image(path: Path, image: Array) -> None:
    """Write a (H, W, 3) uint8 RGB image in the format of the suffix; make the folder.

    Raises:
        UnavailableError: If it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        path.write_bytes(data.tobytes())
    except (OSError, cv2.error) as error:
        raise UnavailableError(f"{path}: cannot be written") from error

"""Drawn frames as image files."""

from __future__ import annotations

from pathlib import Path

from runtimes.output_paths import free_path
from runtimes.pictures import write_image
from runtimes.sinks.base import Array, Sink
from runtimes.sources import IMAGE_SUFFIXES, Frame, ImageSource


class ImageSink(Sink):
    """A folder with the structure of the source's folder, or one image file."""

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

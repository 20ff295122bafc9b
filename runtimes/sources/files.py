"""Images and video files: every frame, as fast as it is wanted."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2

from runtimes.errors import ImageError, SourceError
from runtimes.preprocess import read_image
from runtimes.sources.base import Array, Frame, Source

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

logger = logging.getLogger(__name__)


class ImageSource(Source):
    """Image files, in order; a damaged one among several is skipped with a warning."""

    def __init__(self, name: str, paths: list[Path]) -> None:
        super().__init__(name)
        self.paths = paths
        self.frame_count = len(paths)

    def __iter__(self) -> Generator[Frame, None, None]:
        for index, path in enumerate(self.paths):
            try:
                image = read_image(path)
            except ImageError as error:
                if len(self.paths) == 1:
                    raise
                logger.warning("skipped %s", error)
                continue
            yield Frame(image, index, 0.0, str(path))


class VideoSource(Source):
    """A video file, every frame."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        with released(cv2.VideoCapture(str(path))) as capture:
            if not capture.isOpened():
                raise SourceError(
                    f"{path}: cannot be decoded as a video; the file is damaged or of another kind", code="damaged"
                )
            self.fps = capture.get(cv2.CAP_PROP_FPS) or None
            self.frame_count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Generator[Frame, None, None]:
        step = 1 / (self.fps or 25.0)
        index = 0
        with closing(read_capture(cv2.VideoCapture(self.name))) as images:
            for image in images:
                yield Frame(image, index, index * step, self.name)
                index += 1
        if not index:
            raise SourceError(
                f"{self.name}: not one frame of this video can be decoded; the file is damaged", code="damaged"
            )


@contextmanager
def released(capture: Any) -> Iterator[Any]:
    """Release an OpenCV capture at the end of a `with` block."""
    try:
        yield capture
    finally:
        capture.release()


def read_capture(capture: Any) -> Generator[Array, None, None]:
    """(H, W, 3) uint8 RGB images until a read fails, which may be the first one."""
    with released(capture):
        while True:
            there, image = capture.read()
            if not there:
                return
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def expect_images(text: str, paths: list[Path]) -> list[Path]:
    """Those paths that are images; raise SourceError if none is."""
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        hint = f"; for its subfolders: '{Path(text) / '**'}'" if Path(text).is_dir() else ""
        raise SourceError(f"{text}: no images there, looked for {', '.join(IMAGE_SUFFIXES)}{hint}", code="missing")
    return images

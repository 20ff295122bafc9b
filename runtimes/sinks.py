"""Where drawn pictures go: a video file or a folder of images.

Videos are written as fragmented MP4 where PyAV is installed: such a file can be played up to its last fragment even if
the power fails or the disk is full, while a plain one is lost without its last bytes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.errors import UsageError
from runtimes.sources import IMAGE_SUFFIXES, Frame, ImageSource, Source

Array = NDArray[Any]

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")
DEFAULT_FPS = 25.0
_CLOCK = 90_000
"""Ticks in a second of a video's clock."""


class Sink(ABC):
    """Takes pictures; a context manager, so that a file is finished whatever happens."""

    @abstractmethod
    def write(self, image: Array, frame: Frame) -> None:
        """Write a (H, W, 3) uint8 RGB picture that was drawn from a frame."""

    def close(self) -> None:  # noqa: B027  # not abstract: images have nothing to finish
        """Finish what was written; a second call does nothing."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ImageSink(Sink):
    """A folder that mirrors the folder of the source, or one image file."""

    def __init__(self, path: Path, source: ImageSource) -> None:
        self._path = path
        self._is_file = path.suffix.lower() in IMAGE_SUFFIXES and source.frame_count == 1
        self._root = Path(os.path.commonpath([p.parent for p in source.paths]))

    def write(self, image: Array, frame: Frame) -> None:
        path = self._path if self._is_file else self._path / Path(frame.name).relative_to(self._root)
        write_image(path, image)


class VideoSink(Sink):
    """H.264 in fragmented MP4, by PyAV; each frame at its own time, so that a live recording keeps its pace."""

    def __init__(self, path: Path, av: Any) -> None:
        self._path = path
        self._av = av
        self._container: Any = None
        self._stream: Any = None
        self._last = -1

    def write(self, image: Array, frame: Frame) -> None:
        try:
            if self._container is None:
                self._open(*image.shape[:2])
            picture = self._av.VideoFrame.from_ndarray(self._fit(image), format="rgb24")
            self._last = picture.pts = max(self._last + 1, round(frame.time_s * _CLOCK))
            picture.time_base = Fraction(1, _CLOCK)
            self._container.mux(self._stream.encode(picture))
        except OSError as error:
            raise UsageError(f"{self._path}: cannot be written: {error.strerror or type(error).__name__}") from error

    def close(self) -> None:
        if self._container is None:
            return
        container, self._container = self._container, None
        container.mux(self._stream.encode())
        container.close()

    def _open(self, height: int, width: int) -> None:
        self._container = self._av.open(str(self._path), "w", options={"movflags": "frag_keyframe+empty_moov"})
        stream = self._container.add_stream("h264", rate=round(DEFAULT_FPS))
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        stream.codec_context.gop_size = 2 * round(DEFAULT_FPS)
        stream.options = {"preset": "veryfast", "crf": "23"}
        self._stream = stream

    def _fit(self, image: Array) -> Array:
        """Crop to even sides, which the codec wants; resize if the camera came back with another size."""
        height, width = self._stream.height, self._stream.width
        if image.shape[0] // 2 * 2 != height or image.shape[1] // 2 * 2 != width:
            return cv2.resize(image, (width, height))
        return np.ascontiguousarray(image[:height, :width])


class PlainVideoSink(Sink):
    """MPEG-4 by OpenCV, at a fixed pace; for machines without PyAV."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._writer: Any = None
        self._size_wh = (0, 0)

    def write(self, image: Array, frame: Frame) -> None:
        if self._writer is None:
            self._size_wh = (image.shape[1], image.shape[0])
            fourcc = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), fourcc, self._fps, self._size_wh)
            if not self._writer.isOpened():
                raise UsageError(f"{self._path}: cannot be written as a video")
        if image.shape[1::-1] != self._size_wh:
            image = cv2.resize(image, self._size_wh)
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


def open_sink(path: str | Path, source: Source) -> Sink:
    """Choose how to keep the pictures of a source: images become images, anything else a video.

    Args:
        path: A folder (or, for one image, an image file); a .mp4, .mkv or .mov for moving pictures.
        source: Where the frames come from.

    Raises:
        UsageError: If the path does not fit the source.
    """
    path = Path(path)
    if isinstance(source, ImageSource):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise UsageError(f"{path}: the source is images; name a folder to keep them in")
        return ImageSink(path, source)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise UsageError(f"{path}: expected a video file ending in {', '.join(VIDEO_SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import av
    except ModuleNotFoundError:
        return PlainVideoSink(path, source.fps or DEFAULT_FPS)
    return VideoSink(path, av)


def write_image(path: Path, image: Array) -> None:
    """Write a (H, W, 3) uint8 RGB image in the format of the suffix; make the folder.

    Raises:
        UsageError: If it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        path.write_bytes(data.tobytes())
    except (OSError, cv2.error) as error:
        raise UsageError(f"{path}: cannot be written") from error

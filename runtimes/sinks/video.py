"""Drawn frames as a video.

With PyAV as fragmented MP4: such a file is playable up to its last fragment even after a power failure, a killed
process or a full disk, whereas a plain MP4 is lost without its last bytes.
"""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtimes.errors import UnavailableError
from runtimes.output_paths import claim_file
from runtimes.sinks.base import Array, Sink
from runtimes.sources import Frame

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")
DEFAULT_FPS = 25.0
ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "23", "tune": "zerolatency"},
    "libopenh264": {"b": "4000000"},
    "mpeg4": {"qscale": "4", "flags": "+qscale"},
}
"""Encoders in order of preference, with their options; the first one in this FFmpeg is used. The encoder does not delay
frames, because delayed ones are lost when the process is killed."""
_CLOCK = 90_000
"""Ticks per second of a video's clock."""
_FRAGMENTED = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "1000000",
    "flush_packets": "1",
}
"""Maximum loss of a killed process: the last second."""

logger = logging.getLogger(__name__)


class VideoSink(Sink):
    """A video written with PyAV; each frame has its own time, so that a live recording keeps its speed."""

    def __init__(self, path: Path, av: Any, *, overwrite: bool = False) -> None:
        self._path = path
        self._overwrite = overwrite
        self._av = av
        self._container: Any = None
        self._stream: Any = None
        self._last = -1
        self._is_begun = False

    def written(self) -> list[str]:
        return [str(self._path)] if self._is_begun else []

    def write(self, image: Array, frame: Frame) -> None:
        try:
            if self._container is None:
                self._open(*image.shape[:2])
            picture = self._av.VideoFrame.from_ndarray(self._fit(image), format="rgb24")
            self._last = picture.pts = max(self._last + 1, round(frame.time_s * _CLOCK))
            picture.time_base = Fraction(1, _CLOCK)
            self._container.mux(self._stream.encode(picture))
        except OSError as error:
            raise self._explain(error) from error

    def close(self) -> None:
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.mux(self._stream.encode())
            container.close()
        except OSError as error:
            raise self._explain(error) from error

    def _open(self, height: int, width: int) -> None:
        self._path, self._is_begun = claim_file(self._path, overwrite=self._overwrite), True
        options = _FRAGMENTED if self._path.suffix.lower() in (".mp4", ".mov") else {"flush_packets": "1"}
        self._container = self._av.open(str(self._path), "w", options=options)
        name = next(name for name in ENCODERS if name in self._av.codecs_available)
        stream = self._container.add_stream(name, rate=round(DEFAULT_FPS), options=ENCODERS[name])
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK if name != "mpeg4" else 30_000)
        stream.codec_context.gop_size = 2 * round(DEFAULT_FPS)
        self._stream = stream

    def _fit(self, image: Array) -> Array:
        """Crop to even sides, as the codec requires; fit an image of another size, if the source has changed it."""
        height, width = self._stream.height, self._stream.width
        if image.shape[0] // 2 * 2 != height or image.shape[1] // 2 * 2 != width:
            return fit_in(image, (height, width))
        return np.ascontiguousarray(image[:height, :width])

    def _explain(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"{self._path}: cannot be written: {error.strerror or type(error).__name__}")


class PlainVideoSink(Sink):
    """MPEG-4 written with OpenCV, at a fixed frame rate; for machines without PyAV."""

    def __init__(self, path: Path, fps: float, *, overwrite: bool = False) -> None:
        logger.warning(
            "%s: a power failure or a full disk would make this video unreadable; to avoid this: pip install av", path
        )
        self._path = path
        self._overwrite = overwrite
        self._fps = fps
        self._writer: Any = None
        self._is_begun = False
        self._size_wh = (0, 0)

    def written(self) -> list[str]:
        return [str(self._path)] if self._is_begun else []

    def write(self, image: Array, frame: Frame) -> None:
        if self._writer is None:
            self._path, self._is_begun = claim_file(self._path, overwrite=self._overwrite), True
            self._size_wh = (image.shape[1], image.shape[0])
            fourcc = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), fourcc, self._fps, self._size_wh)
            if not self._writer.isOpened():
                raise UnavailableError(f"{self._path}: cannot be written as a video")
        if image.shape[1::-1] != self._size_wh:
            image = fit_in(image, self._size_wh[::-1])
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


def fit_in(image: Array, size_hw: tuple[int, int]) -> Array:
    """An image scaled into the middle of a black one of another size, with its aspect ratio kept.

    Args:
        image: (h, w, 3) uint8.
        size_hw: Height and width in pixels.

    Returns:
        (H, W, 3) uint8.
    """
    height, width = size_hw
    scale = min(height / image.shape[0], width / image.shape[1])
    new_height = max(1, round(image.shape[0] * scale))
    new_width = max(1, round(image.shape[1] * scale))
    canvas = np.zeros((height, width, 3), np.uint8)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    canvas[top : top + new_height, left : left + new_width] = cv2.resize(image, (new_width, new_height))
    return canvas

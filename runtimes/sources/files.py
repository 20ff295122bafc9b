"""Images and video files: every frame, as fast as it is processed."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from runtimes.errors import ImageError, SourceError
from runtimes.preprocess import read_image
from runtimes.sources.base import Array, Frame, Source
from runtimes.sources.pixels import AvPixels, Pixels
from runtimes.sources.reader.scaling import Scaler

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
"""Suffixes of addresses that are files on a web server, not streams."""
WEB_TIMEOUT_S = 10.0
"""Timeout of a web server from which a video file is read, in seconds."""
MISSING_END_S = 1.0
"""Missing seconds at the end from which a video counts as truncated."""
_TILED = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
"""Brands of ISO base media files that are tiled images."""

logger = logging.getLogger(__name__)


class ImageSource(Source):
    """Image files, in order; a damaged one among several is skipped with a warning."""

    def __init__(self, name: str, paths: list[Path]) -> None:
        super().__init__(name)
        self.paths = paths
        self.frame_count = len(paths)

    @property
    def root(self) -> Path:
        """The common folder of all images."""
        return Path(os.path.commonpath([path.parent for path in self.paths]))

    def reads(self) -> list[Path]:
        """The files, and their folders."""
        root = self.root  # computed once here, because the property resolves every path
        inner = {path.parent for path in self.paths}
        folders = {folder for one in inner for folder in (one, *one.parents) if folder.is_relative_to(root)}
        return [*self.paths, *folders]

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


class DecodedFrame(NamedTuple):
    """One decoded frame of a video file."""

    image: Array | Pixels
    """Its image, in the source's form, after rotation."""
    time_s: float | None
    """Presentation time, by the file's clock; None if unknown."""
    duration_s: float
    """Duration, 0 if unknown."""
    small: Array | None = None
    """The model's input made from it."""


class Gaps:
    """Counts missing frames in a video with a constant frame rate, by the times of its frames.

    A container may silently drop damaged data. Videos with a variable frame rate cannot be checked.
    """

    STEADY = 0.9
    """Minimum share of intervals with the usual length in a video with a constant frame rate."""

    def __init__(self) -> None:
        self._intervals: list[float] = []
        self._last_s: float | None = None

    def add(self, time_s: float) -> None:
        """Add a frame."""
        if self._last_s is not None:
            self._intervals.append(time_s - self._last_s)
        self._last_s = time_s

    def count(self) -> int:
        """Number of missing frames between the first and the last."""
        if not self._intervals:
            return 0
        usual_s = float(np.median(self._intervals))
        if usual_s <= 0:
            return 0
        steps = np.array(self._intervals) / usual_s
        is_usual = np.abs(steps - 1) < 0.2
        if is_usual.mean() < self.STEADY:
            return 0
        missing = np.round(steps) - 1
        return int(missing[~is_usual].clip(0).sum())


class VideoSource(Source):
    """A video file, every frame: with PyAV, or OpenCV without it.

    With PyAV, a frame that cannot be decoded is skipped and the next ones follow; the frame size may change.
    """

    def __init__(self, path: str | Path, *, name: str = "") -> None:
        """Open and check the file.

        Args:
            path: A file, or its URL on a web server.
            name: Name in messages, if the URL contains secrets.

        Raises:
            SourceError: If it cannot be decoded.
        """
        super().__init__(name or str(path))
        self._path = str(path)
        self._damaged = 0
        if "://" not in self._path:
            _refuse_tiles(Path(path))
        with self._opened() as video:
            self.fps = video.fps or None
            self.frame_count = video.frame_count
            self._duration_s = video.duration_s

    def __iter__(self) -> Generator[Frame, None, None]:
        """Yield all frames.

        SourceError is raised at the end, if no frame of the file can be decoded, or the file ends early.

        Raises:
            SourceError: At the end, if the file has no frame that can be decoded, or breaks off early.
        """
        step_s = 1 / (self.fps or 25.0)
        index, first_s, end_s = 0, 0.0, 0.0
        gaps = Gaps()
        with self._opened() as video:
            for shot in video.shots(self.input_hw):
                if index == 0:
                    first_s = shot.time_s or 0.0
                time_s = index * step_s if shot.time_s is None else shot.time_s - first_s
                end_s = time_s + (shot.duration_s or step_s)
                gaps.add(time_s)
                yield Frame(shot.image, index, time_s, self.name, small=shot.small)
                index += 1
            damaged, broke_off = video.damaged, video.broke_off
        if not index:
            raise SourceError(
                f"{self.name}: no frame of this video can be decoded; the file is damaged", code="damaged"
            )
        lost = max(damaged, gaps.count())
        if lost:
            frames = "1 frame is" if lost == 1 else f"{lost} frames are"
            logger.warning("%s: %s damaged and skipped", self.name, frames)
        if broke_off or end_s < self._duration_s - MISSING_END_S:
            raise SourceError(
                f"{self.name}: ends early, after {index} frames, {end_s:.1f} of {self._duration_s:.1f} s; "
                "the file is cut off or damaged",
                code="damaged",
            )

    @contextmanager
    def _opened(self) -> Iterator[_AvVideo | _OpenCvVideo]:
        try:
            import av
        except ModuleNotFoundError:
            capture = cv2.VideoCapture(self._path)
            try:
                yield _OpenCvVideo(capture, self.name)
            finally:
                capture.release()
            return
        try:
            timeout = (WEB_TIMEOUT_S, WEB_TIMEOUT_S) if "://" in self._path else None
            container = av.open(self._path, timeout=timeout)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise _explain(error, self.name) from None
        with container:
            yield _AvVideo(av, container, self.name)


class _AvVideo:
    """A video file opened with PyAV."""

    def __init__(self, av: Any, container: Any, name: str) -> None:
        videos = [v for v in container.streams.video if getattr(v, "codec_context", None) is not None]
        if not videos:
            raise _undecodable(name)
        self._av, self._container, self._video = av, container, videos[0]
        self._video.thread_type = "AUTO"
        self.fps = float(self._video.average_rate or 0)
        self.duration_s = self._measure_duration()
        self.frame_count = self._video.frames or round(self.fps * self.duration_s)
        self.damaged = 0
        self.broke_off = False

    def _measure_duration(self) -> float:
        """Duration of the file in seconds, according to its header."""
        # FFmpeg computes the duration of a truncated file from its size
        if self._container.format.name == "avi" and self.fps:
            return float(self._video.frames / self.fps)
        if self._video.duration is not None:
            return float(self._video.duration * self._video.time_base)
        return float((self._container.duration or 0) / self._av.time_base)

    def shots(self, input_hw: tuple[int, int] | None = None) -> Iterator[DecodedFrame]:
        """Every frame that can be decoded, with the input of a model with this size."""
        scaler = Scaler(self._av)
        for packet in self._packets():
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                self.damaged += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged += 1
                    continue
                yield self._convert(frame, scaler, input_hw)

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._video)
        except self._av.error.FFmpegError:
            self.broke_off = True

    def _convert(self, frame: Any, scaler: Scaler, input_hw: tuple[int, int] | None) -> DecodedFrame:
        turns = round(frame.rotation / 90)  # a phone held upright stores a rotation of its frames
        pixels = AvPixels(frame, turns)
        small = pixels.for_model(scaler, input_hw) if input_hw else None
        duration = float((frame.duration or 0) * (frame.time_base or 0))
        return DecodedFrame(pixels, frame.time, duration, small)


class _OpenCvVideo:
    """A video file opened with OpenCV, which ends at the first frame that it cannot decode."""

    damaged = 0

    def __init__(self, capture: Any, name: str) -> None:
        if not capture.isOpened():
            raise _undecodable(name)
        self._capture = capture
        self.fps = capture.get(cv2.CAP_PROP_FPS) or 0.0
        self.frame_count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.duration_s = self.frame_count / self.fps if self.fps else 0.0
        self.broke_off = False

    def shots(self, input_hw: tuple[int, int] | None = None) -> Iterator[DecodedFrame]:
        """Frames until a read fails, which may be the first one; OpenCV gives whole frames."""
        while True:
            is_there, image = self._capture.read()
            if not is_there:
                return
            time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield DecodedFrame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), time_s, 0.0)


_REFUSALS = {
    "NotFound": ("not-found", "the server has no such file"),
    "Unauthorized": ("unauthorised", "the server rejects this user name and password"),
    "Forbidden": ("unauthorised", "the server rejects this user name and password"),
    "ConnectionRefused": ("refused", "nothing listens at this address and port"),
}
"""Part of the name of a PyAV error -> code and message, for a file on a web server."""


def _explain(error: Exception, name: str) -> SourceError:
    """Why a file cannot be opened; the text of the error may contain an address, and is not used."""
    if "://" in name:
        for part, (code, words) in _REFUSALS.items():
            if part in type(error).__name__:
                return SourceError(f"{name}: {words}", code=code)
    return _undecodable(name)


def _undecodable(name: str) -> SourceError:
    return SourceError(f"{name}: cannot be decoded as a video; the file is damaged or of another kind", code="damaged")


def _refuse_tiles(path: Path) -> None:
    """Refuse HEIC images: they would be decoded as a video whose first frame is the image's first tile.

    Raises:
        SourceError: If the file is one.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in _TILED:
        raise SourceError(
            f"{path}: HEIC images are not supported; convert to JPEG or PNG first (heif-convert, or the share "
            "settings of the phone)",
            code="damaged",
        )

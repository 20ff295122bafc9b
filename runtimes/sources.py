"""Where pictures come from: camera, network stream, video file, image, folder.

A source is iterated; each iteration opens a fresh handle, so that a lost stream is read on by iterating again.
Timing, dropping and reconnecting are the business of `runtimes.stream`. Passwords never reach a message.
"""

from __future__ import annotations

import glob
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from runtimes.errors import ImageError, SourceError
from runtimes.preprocess import read_image
from runtimes.redaction import redact

Array = NDArray[Any]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
TIMEOUT_S = 5.0
"""How long a network stream may take to connect or to send the next frame."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source."""

    image: Array
    """(H, W, 3) uint8 RGB."""
    index: int
    """Number in the source, from 0; `Stream` counts those of a live source on over reconnections."""
    time_s: float
    """Seconds since the source began: by its own clock for a video, at arrival for a live source, 0 for images."""
    name: str
    """Path of an image; otherwise the source with its password hidden."""
    source: str = ""
    """Label of the source that it came from, with its password hidden; set by `Stream`."""
    arrived: float = 0.0
    """When it was decoded, by `time.monotonic`, so that its age is known; set by `Stream`."""


class Source(ABC):
    """Something that gives frames. Iterating opens it afresh."""

    is_live = False
    """Whether frames come when they will, so that late ones are dropped."""
    can_reconnect = False
    """Whether iterating again after a loss makes sense."""
    fps: float | None = None
    """Frames per second, where that is known."""
    frame_count = 0
    """Number of frames, 0 where it is not known."""

    def __init__(self, name: str) -> None:
        self.name = name

    def abort(self) -> None:  # noqa: B027  # most sources never block for long
        """Break off a read that blocks; from any thread."""

    @abstractmethod
    def __iter__(self) -> Generator[Frame, None, None]:
        """Frames until the source ends.

        Raises:
            SourceError: If it cannot be opened or is lost.
        """


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
                raise SourceError(f"{path}: cannot be decoded as a video; the file is damaged or of another kind")
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
            raise SourceError(f"{self.name}: not one frame of this video can be decoded; the file is damaged")


class CameraSource(Source):
    """A camera of this machine, by number or device file."""

    is_live = True

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._device = int(device) if device.isdigit() else device

    def __iter__(self) -> Generator[Frame, None, None]:
        start, index = time.monotonic(), 0
        with closing(read_capture(cv2.VideoCapture(self._device))) as images:
            for image in images:
                yield Frame(image, index, time.monotonic() - start, self.name)
                index += 1
        # A camera never ends by itself, and OpenCV calls a dead one open: only a frame is a proof.
        raise SourceError(self._explain(index))

    def _explain(self, frames: int) -> str:
        if frames:
            return f"camera {self.name}: lost after {frames} frames; is it still plugged in?"
        found = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        return f"camera {self.name}: no picture; absent, in use or not permitted (devices here: {found})"


class NetworkSource(Source):
    """An RTSP, HTTP, RTMP, SRT or UDP stream; read with PyAV where it is installed, else with OpenCV."""

    is_live = True
    can_reconnect = True

    def __init__(self, url: str) -> None:
        super().__init__(redact(url))
        self._url = url

    def __iter__(self) -> Generator[Frame, None, None]:
        start, index = time.monotonic(), 0
        try:
            with closing(self._read()) as images:
                for image in images:
                    yield Frame(image, index, time.monotonic() - start, self.name)
                    index += 1
        except SourceError:
            if not index:
                raise
        raise SourceError(f"{self.name}: {f'lost after {index} frames' if index else _UNREACHABLE}")

    def _read(self) -> Generator[Array, None, None]:
        try:
            import av
        except ModuleNotFoundError:
            return read_capture(open_network_capture(self._url))
        return self._read_av(av)

    def _read_av(self, av: Any) -> Generator[Array, None, None]:
        """Decode with PyAV, which has true time limits, small delay and errors with reasons."""
        last = time.monotonic()
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
        try:
            with av.open(self._url, options=options, timeout=TIMEOUT_S) as container:
                for frame in container.decode(video=0):
                    yield frame.to_ndarray(format="rgb24")
                    last = time.monotonic()
        except (av.FFmpegError, IndexError, OSError, ValueError) as error:
            reason = explain(error, time.monotonic() - last)
            raise SourceError(f"{self.name}: {reason}") from None  # the text of the cause holds the password


_UNREACHABLE = "cannot connect; check address, user name and password, and that the camera is on"
_REASONS = {
    "Unauthorized": "the server refuses this user name and password",
    "Forbidden": "the server refuses this user name and password",
    "ProtocolNotFound": "unknown kind of address",
    "NotFound": "the server answers, but has no such stream",
    "ConnectionRefused": "cannot connect: nothing listens at this address and port",
    "InvalidData": "the server answers, but not with a video",
    "EOF": "the stream ended",
    "IndexError": "there is no video in this stream",
    "OSError": "cannot be read: the host is unknown or its answer is not a video",
}
"""Part of the name of an error of PyAV -> words."""


def explain(error: Exception, waited_s: float) -> str:
    """Why a network stream failed, in words; FFmpeg gives many names to a time limit that ran out."""
    if waited_s >= 0.9 * TIMEOUT_S:
        return f"no answer or no frame within {TIMEOUT_S:g} s"
    kind = type(error).__name__
    known = (reason for key, reason in _REASONS.items() if key in kind)
    return next(known, getattr(error, "strerror", None) or kind)


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


def open_network_capture(url: str) -> Any:
    """An OpenCV capture with time limits; without them a silent server blocks for half a minute and more."""
    limit = int(TIMEOUT_S * 1000)
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)


def open_source(text: str | Path) -> Source:
    """Find out what a text names and check what can be checked without waiting.

    Args:
        text: A camera ("0", "/dev/video0"), a URL, a video file, an image, a folder of images or a glob pattern.

    Raises:
        SourceError: If a file is missing, a folder is empty or a video cannot be decoded.
    """
    text = str(text)
    if text.isdigit() or text.startswith("/dev/video"):
        return CameraSource(text)
    if re.match(r"[a-z][a-z0-9+]*://", text, re.IGNORECASE):
        return NetworkSource(text)
    path = Path(text)
    if path.is_dir():
        return ImageSource(text, expect_images(text, sorted(path.iterdir())))
    if not path.exists() and glob.has_magic(text):
        return ImageSource(text, expect_images(text, sorted(map(Path, glob.glob(text, recursive=True)))))
    if not path.is_file():
        raise SourceError(f"{text}: no such file; a source is a camera number, a URL, a video, an image or a folder")
    return ImageSource(text, [path]) if path.suffix.lower() in IMAGE_SUFFIXES else VideoSource(path)


def expect_images(text: str, paths: list[Path]) -> list[Path]:
    """Those paths that are images; raise SourceError if none is."""
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        hint = f"; for its subfolders: '{Path(text) / '**'}'" if Path(text).is_dir() else ""
        raise SourceError(f"{text}: no images there, looked for {', '.join(IMAGE_SUFFIXES)}{hint}")
    return images

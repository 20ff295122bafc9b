"""Frames and sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from runtimes.sources.pixels import Pixels, RgbPixels

Array = NDArray[Any]

STALL_S = 2.0
"""Seconds without a frame after which a live source has stalled, unless its own frame rate is lower."""
CODES = {
    "missing": "file not found",
    "damaged": "a file cannot be decoded",
    "bad-address": "the address cannot be understood",
    "unknown-host": "the name of the host is not known",
    "unreachable": "the host does not respond",
    "refused": "the host responds, but nothing listens at the port",
    "silent": "neither a picture nor an error in time; the server may accept connections and never respond",
    "unauthorised": "user name or password are wrong",
    "not-found": "the server has no such stream",
    "not-a-stream": "the server sends something else",
    "no-video": "the stream holds no video, or the device is no camera",
    "no-codec": "the video is of a kind that cannot be decoded here",
    "no-device": "there is no such camera",
    "no-permission": "this user may not open the camera",
    "busy": "another program uses the camera",
    "no-driver": "the package that reads such a camera is not installed",
    "stalled": "frames stopped coming",
    "ended": "a recording on a server is over",
    "lost": "the connection broke or the stream ended",
    "unreadable": "anything else",
}
"""Values of `SourceError.code` -> meaning."""


class _Image:
    """The field `image` of `Frame`: accepts an array or `Pixels`; returns RGB, converted when it is first read."""

    def __get__(self, frame: Frame | None, owner: type[Frame]) -> Array:
        if frame is None:
            raise AttributeError("image")  # a dataclass then sees no default for this field
        return frame.pixels.rgb()

    def __set__(self, frame: Frame, image: Array | Pixels) -> None:
        frame.__dict__["_pixels"] = image if isinstance(image, Pixels) else RgbPixels(image)


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a source."""

    image: _Image = _Image()
    """(H, W, 3) uint8 RGB, converted when it is first read; `pixels` has the original form."""
    # mypy takes the descriptor for a default, which it is not.
    index: int  # type: ignore[misc]
    """Number in the source, from 0; `Stream` continues the numbers of a live source over reconnections."""
    time_s: float  # type: ignore[misc]
    """Seconds since the start of the source: by its own clock for a video, at arrival for a live source, 0 for
    images."""
    name: str  # type: ignore[misc]
    """Path of an image; for other sources their name with the password hidden."""
    source: str = ""
    """Label of its source, with the password hidden; set by `Stream`."""
    arrived: float = 0.0
    """Time of decoding, by `time.monotonic`, for its age; set by `Stream`."""
    small: Array | None = None
    """(h, w, 3) uint8 RGB, the model's input without border, if the source made it."""

    @property
    def pixels(self) -> Pixels:
        """The image in the source's form."""
        pixels: Pixels = self.__dict__["_pixels"]
        return pixels

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, in pixels, without a conversion."""
        return self.pixels.size_hw


class Source(ABC):
    """A source of frames. Each iteration opens it again."""

    is_live = False
    """Whether frames come at their own rate, so that late ones are dropped."""
    can_reconnect = False
    """Whether it can be iterated again after a loss."""
    fps: float | None = None
    """Frames per second, if known."""
    frame_count = 0
    """Number of frames, 0 if unknown."""
    input_hw: tuple[int, int] | None = None
    """Height and width of the model's input, for sources that can make `Frame.small`. Set by `Stream` before
    iteration."""

    def __init__(self, name: str) -> None:
        self.name = name

    def reads(self) -> list[Path]:
        """Files and folders that it reads; outputs must not overwrite them."""
        return [Path(self.name)] if Path(self.name).exists() else []

    def abort(self) -> None:  # noqa: B027  # most sources never block for long
        """Abort a blocking read; callable from any thread."""

    @abstractmethod
    def __iter__(self) -> Generator[Frame, None, None]:
        """Frames until the source ends.

        Raises:
            SourceError: If it cannot be opened or is lost.
        """

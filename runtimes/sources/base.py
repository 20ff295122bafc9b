"""What a frame and a source are."""

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
"""A live source that gives no frame for so many seconds has stalled, unless it is slower by itself."""
CODES = {
    "missing": "there is no such file",
    "damaged": "a file cannot be decoded",
    "bad-address": "the address cannot be understood",
    "unknown-host": "the name of the host is not known",
    "unreachable": "the host does not answer",
    "refused": "the host answers, but nothing listens at the port",
    "silent": "neither a picture nor an error in time; the server may take connections and never answer",
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
"""Values of `SourceError.code`, and what they mean."""


class _Image:
    """The field `image` of `Frame`: takes an array or `Pixels`; gives RGB, made when it is first read."""

    def __get__(self, frame: Frame | None, owner: type[Frame]) -> Array:
        if frame is None:
            raise AttributeError("image")  # so that the field has no default
        return frame.pixels.rgb()

    def __set__(self, frame: Frame, image: Array | Pixels) -> None:
        frame.__dict__["_pixels"] = image if isinstance(image, Pixels) else RgbPixels(image)


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source."""

    image: _Image = _Image()
    """(H, W, 3) uint8 RGB, made when it is first read; `pixels` has what it is made of."""
    # mypy takes the descriptor for a default, which it is not.
    index: int  # type: ignore[misc]
    """Number in the source, from 0; `Stream` counts those of a live source on over reconnections."""
    time_s: float  # type: ignore[misc]
    """Seconds since the source began: by its own clock for a video, at arrival for a live source, 0 for images."""
    name: str  # type: ignore[misc]
    """Path of an image; otherwise the source with its password hidden."""
    source: str = ""
    """Label of the source that it came from, with its password hidden; set by `Stream`."""
    arrived: float = 0.0
    """When it was decoded, by `time.monotonic`, so that its age is known; set by `Stream`."""
    small: Array | None = None
    """(h, w, 3) uint8 RGB, what the model reads of it, without border, where the source made it on the way."""

    @property
    def pixels(self) -> Pixels:
        """The picture as the source has it."""
        pixels: Pixels = self.__dict__["_pixels"]
        return pixels

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, in pixels; nothing is made for it."""
        return self.pixels.size_hw


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
    input_hw: tuple[int, int] | None = None
    """Height and width of the input of the model that looks at the frames: a source that can makes `Frame.small` for
    it. Set by `Stream` before it is iterated."""

    def __init__(self, name: str) -> None:
        self.name = name

    def reads(self) -> list[Path]:
        """Files and folders that it reads, which no output may be."""
        return [Path(self.name)] if Path(self.name).exists() else []

    def abort(self) -> None:  # noqa: B027  # most sources never block for long
        """Break off a read that blocks; from any thread."""

    @abstractmethod
    def __iter__(self) -> Generator[Frame, None, None]:
        """Frames until the source ends.

        Raises:
            SourceError: If it cannot be opened or is lost.
        """

"""The pixels of a frame in the source's form; they are converted to RGB once, when they are first used."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import UnavailableError
from runtimes.preprocess import resize_image
from runtimes.sources.reader.scaling import Scaler, can_shrink, fit_size, one_thread

Array = NDArray[Any]
SizeHw = tuple[int, int]


class Pixels(ABC):
    """One image, in any form; thread-safe."""

    is_kept = True
    """Whether the image is available."""

    def __init__(self, size_hw: SizeHw) -> None:
        self.size_hw = size_hw
        """Height and width, in pixels."""
        self._rgb: Array | None = None
        self._lock = threading.Lock()

    def rgb(self) -> Array:
        """(H, W, 3) uint8 RGB, the same array each time.

        Raises:
            UnavailableError: If it was not kept.
        """
        with self._lock:
            if self._rgb is None:
                self._rgb = self._make_rgb()
                self._forget()
            return self._rgb

    def resized(self, size_hw: SizeHw) -> Array:
        """The image at a smaller size.

        Args:
            size_hw: Height and width, in pixels.

        Returns:
            (H, W, 3) uint8 RGB, owned by the caller.

        Raises:
            UnavailableError: If it was not kept.
        """
        with self._lock:
            if self._rgb is None:
                return self._make_resized(size_hw)
            if size_hw == self.size_hw:
                return self._rgb.copy()
            return resize_image(self._rgb, size_hw, size_hw[0] / self.size_hw[0])

    @abstractmethod
    def _make_rgb(self) -> Array:
        """(H, W, 3) uint8 RGB, under the lock."""

    @abstractmethod
    def _make_resized(self, size_hw: SizeHw) -> Array:
        """As `resized`, under the lock, before there is RGB."""

    def _forget(self) -> None:  # noqa: B027  # only what holds memory has something to do
        """Free the data from which RGB was made, under the lock."""


class RgbPixels(Pixels):
    """(H, W, 3) uint8 RGB in memory."""

    def __init__(self, image: Array) -> None:
        super().__init__((image.shape[0], image.shape[1]))
        self._rgb = image

    def _make_rgb(self) -> Array:
        raise AssertionError("__init__ sets the RGB image")

    def _make_resized(self, size_hw: SizeHw) -> Array:
        raise AssertionError("resizing starts from the RGB image that __init__ sets")


class MissingPixels(Pixels):
    """An image that stayed in the reading process, because no output had requested it."""

    is_kept = False

    def _make_rgb(self) -> Array:
        raise UnavailableError("the image of this frame was not kept, because no output requested it in time")

    def _make_resized(self, size_hw: SizeHw) -> Array:
        return self._make_rgb()


class AvPixels(Pixels):
    """A decoded frame of PyAV."""

    def __init__(self, frame: Any, turns: int = 0) -> None:
        """

        Args:
            frame: A `VideoFrame`.
            turns: Number of quarter rotations, counter-clockwise.
        """
        height, width = frame.height, frame.width
        super().__init__((width, height) if turns % 2 else (height, width))
        self._frame: Any = frame
        self._turns = turns

    def _make_rgb(self) -> Array:
        return turn(to_rgb(self._frame), self._turns)

    def _make_resized(self, size_hw: SizeHw) -> Array:
        return self._scale(make_scaler(), size_hw, is_exact=False)

    def for_model(self, scaler: Scaler, input_hw: SizeHw) -> Array | None:
        """The input of a model with this size: uint8 RGB, without border. None if letterboxing the whole image is
        better, see `can_shrink`."""
        if not can_shrink(self.size_hw, input_hw):
            return None
        return self._scale(scaler, fit_size(self.size_hw, input_hw), is_exact=True)

    def _scale(self, scaler: Scaler, size_hw: SizeHw, *, is_exact: bool) -> Array:
        own_hw = size_hw[::-1] if self._turns % 2 else size_hw
        return turn(view_rgb(scaler.scale(self._frame, own_hw, is_exact=is_exact)), self._turns)

    def _forget(self) -> None:
        self._frame = None


def make_scaler() -> Scaler:
    """A scaler for PyAV frames; PyAV must be installed."""
    import av

    return Scaler(av)


def to_rgb(frame: Any) -> Array:
    """(H, W, 3) uint8 RGB of a `VideoFrame`."""
    import av

    reformatter = av.video.reformatter.VideoReformatter()
    return view_rgb(reformatter.reformat(frame, format="rgb24", **one_thread(av, reformatter)))


def view_rgb(frame: Any) -> Array:
    """(H, W, 3) uint8 RGB: the memory of an "rgb24" `VideoFrame`, or a copy if its rows are padded."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    image: Array = rows[: frame.height, : 3 * frame.width].reshape(frame.height, frame.width, 3)
    return image


def turn(image: Array, turns: int) -> Array:
    """The image rotated by quarter turns, counter-clockwise."""
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

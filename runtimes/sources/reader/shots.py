"""Frames in the form in which a camera or decoder gives them, and their conversions, which are made on request only.

A model reads a small picture. The whole picture is only needed if it is drawn or saved. It leaves this process as its
planes, which have half the bytes of RGB.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from .scaling import Scaler, SizeHw, fit_size


class BrokenFrameError(Exception):
    """The frame turned out to be damaged when it was decoded."""


class Rows(NamedTuple):
    """A plane of a picture."""

    data: Any
    """A buffer of `rows` rows of `stride` bytes."""
    rows: int
    stride: int


class Picture(NamedTuple):
    """A picture as its planes."""

    size_hw: SizeHw
    """Height and width, in pixels."""
    form: str
    """FFmpeg's name of the pixel format, such as "yuv420p", "rgb24" or "bgr24"."""
    planes: list[Rows]
    colorspace: int = 2
    """FFmpeg's number of the matrix between RGB and YUV; 2 where the source does not say."""
    color_range: int = 0
    """FFmpeg's number of the range of values; 0 where the source does not say."""


class Shot(ABC):
    """A frame."""

    @property
    @abstractmethod
    def size_hw(self) -> SizeHw:
        """Height and width of the whole picture, in pixels."""

    @abstractmethod
    def small(self, input_hw: SizeHw, *, is_alone: bool) -> Picture | None:
        """What a model reads of the frame.

        Args:
            input_hw: Height and width of its input, in pixels.
            is_alone: Whether only this picture is requested, and not the whole one as well.

        Returns:
            An "rgb24" without border; None if it cannot be made here.

        Raises:
            BrokenFrameError: If the frame is damaged.
        """

    @abstractmethod
    def whole(self) -> Picture:
        """The whole picture.

        Raises:
            BrokenFrameError: If the frame is damaged.
        """


class AvShot(Shot):
    """A decoded frame of PyAV."""

    def __init__(self, frame: Any, scaler: Scaler) -> None:
        self._frame = frame
        self._scaler = scaler

    @property
    def size_hw(self) -> SizeHw:
        return self._frame.height, self._frame.width

    def small(self, input_hw: SizeHw, *, is_alone: bool) -> Picture:
        return wrap_frame(self._scaler.scale(self._frame, fit_size(self.size_hw, input_hw)))

    def whole(self) -> Picture:
        return wrap_frame(self._frame)


def wrap_frame(frame: Any) -> Picture:
    """The planes of a PyAV frame, without a copy."""
    planes = []
    for plane in frame.planes:
        stride = plane.line_size
        planes.append(Rows(memoryview(plane), plane.buffer_size // stride, stride))
    size_hw = frame.height, frame.width
    return Picture(size_hw, frame.format.name, planes, int(frame.colorspace), int(frame.color_range))


class BgrShot(Shot):
    """A (H, W, 3) uint8 array of OpenCV, which is BGR."""

    def __init__(self, image: Any, cv2: Any) -> None:
        self._image = image
        self._cv2 = cv2

    @property
    def size_hw(self) -> SizeHw:
        return self._image.shape[0], self._image.shape[1]

    def small(self, input_hw: SizeHw, *, is_alone: bool) -> Picture:
        return self.shrink(fit_size(self.size_hw, input_hw))

    def shrink(self, size_hw: SizeHw) -> Picture:
        """The picture in another size, by averages of areas, as RGB."""
        small = self._cv2.resize(self._image, size_hw[::-1], interpolation=self._cv2.INTER_AREA)
        return wrap_array(self._cv2.cvtColor(small, self._cv2.COLOR_BGR2RGB), "rgb24")

    def whole(self) -> Picture:
        return wrap_array(self._image, "bgr24")


class RawShot(Shot):
    """The planes of YUV that a camera sends, without gaps, in an array of OpenCV."""

    def __init__(self, image: Any, form: str, size_hw: SizeHw, av: Any, scaler: Scaler) -> None:
        """
        Args:
            image: A uint8 array of any shape.
            form: FFmpeg's name of the pixel format.
            size_hw: Height and width of the picture, in pixels.
            av: The package PyAV.
            scaler: What makes small pictures.
        """
        self._data = memoryview(image.reshape(-1))
        self._form = form
        self._size_hw = size_hw
        self._av = av
        self._scaler = scaler

    @property
    def size_hw(self) -> SizeHw:
        return self._size_hw

    @property
    def byte_count(self) -> int:
        """Bytes of the picture."""
        return sum(rows * stride for rows, stride in self._shapes)

    @property
    def _shapes(self) -> list[SizeHw]:
        """Rows of each plane, and their bytes."""
        height, width = self._size_hw
        half = (height + 1) // 2, (width + 1) // 2
        if self._form in ("yuyv422", "uyvy422"):
            return [(height, 4 * half[1])]
        if self._form in ("nv12", "nv21"):
            return [(height, width), (half[0], 2 * half[1])]
        return [(height, width), half, half]

    def small(self, input_hw: SizeHw, *, is_alone: bool) -> Picture:
        return wrap_frame(self._scaler.scale(self._make_frame(), fit_size(self._size_hw, input_hw)))

    def whole(self) -> Picture:
        planes, start = [], 0
        for rows, stride in self._shapes:
            planes.append(Rows(self._data[start : start + rows * stride], rows, stride))
            start += rows * stride
        return Picture(self._size_hw, self._form, planes)

    def _make_frame(self) -> Any:
        """A `VideoFrame` with these planes."""
        height, width = self._size_hw
        frame = self._av.VideoFrame(width, height, self._form)
        for plane, (data, rows, stride) in zip(frame.planes, self.whole().planes, strict=True):
            if plane.line_size == stride:
                plane.update(data)
                continue
            own = memoryview(plane)
            for row in range(rows):
                own[row * plane.line_size :][:stride] = data[row * stride :][:stride]
        return frame


class RgbShot(Shot):
    """A (H, W, 3) uint8 array of RGB, from a reader that cannot resize it."""

    def __init__(self, image: Any) -> None:
        self._image = image.copy()  # the camera overwrites its buffer with the next frame

    @property
    def size_hw(self) -> SizeHw:
        return self._image.shape[0], self._image.shape[1]

    def small(self, input_hw: SizeHw, *, is_alone: bool) -> None:
        return None

    def whole(self) -> Picture:
        return wrap_array(self._image, "rgb24")


def wrap_array(image: Any, form: str) -> Picture:
    """A (H, W, 3) uint8 array without gaps, without a copy."""
    height, width = image.shape[:2]
    return Picture((height, width), form, [Rows(memoryview(image).cast("B"), height, 3 * width)])

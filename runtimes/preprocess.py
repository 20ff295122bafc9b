"""From a camera frame or an image file to the input tensor, and boxes back again.

Training, calibration and every runtime call these same functions. Colour mean and scale are inside the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.errors import ImageError, MissingFileError, UsageError
from runtimes.image_header import read_size
from runtimes.model_card import ModelCard

Array = NDArray[Any]
Order = Literal["rgb", "bgr"]
"""Of the channels of an image; OpenCV's own is "bgr"."""

MAX_PIXELS = 100_000_000
"""Images that claim more pixels than this are refused before they are decoded."""
_SHRINKING = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""How many times smaller the sides are decoded, to OpenCV's name for it."""
_THIRD = (1 / 3.5, 1 / 2.75)
"""Scales at which averages of 3 x 3 pixels come closer to those of whole blocks than any other quick way."""


@dataclass(frozen=True)
class Letterbox:
    """How an image was laid into the input: anchored top left, border right and below."""

    scale_x: float
    """Input pixels per source pixel, horizontally; exact after rounding."""
    scale_y: float
    """Input pixels per source pixel, vertically; exact after rounding."""
    source_size_hw: tuple[int, int]
    """Height and width of the source image, in pixels."""

    def map_offset(self, offset: float) -> tuple[float, float]:
        """An offset in input pixels, the same in x and y, as x y in source pixels."""
        return offset / self.scale_x, offset / self.scale_y

    def map_boxes(self, boxes: Array) -> Array:
        """(N, 4) x0 y0 x1 y1 from input pixels to source pixels, clipped to the image; float32."""
        height, width = self.source_size_hw
        scale = np.array([self.scale_x, self.scale_y] * 2, dtype=np.float32)
        limit = np.array([width, height] * 2, dtype=np.float32)
        mapped: Array = np.clip(boxes / scale, 0, limit)
        return mapped.astype(np.float32, copy=False)


def letterbox(image: Array, card: ModelCard, order: Order = "rgb") -> tuple[Array, Letterbox]:
    """The input tensor of a model.

    Args:
        image: (h, w, 3) uint8.
        card: Card of the model: input size and border colour.
        order: Of the image's channels; turning them around costs less here than in the whole image.

    Returns:
        (1, H, W, 3) uint8 RGB, and the way back.

    Raises:
        ImageError: If the image has another shape or type.
        UsageError: If the order is unknown.
    """
    if order == "rgb":
        canvas, box = letterbox_image(image, card.input_size_hw, card.pad_rgb)
        return canvas[None], box
    check_order(order)
    canvas, box = letterbox_image(image, card.input_size_hw, card.pad_rgb[::-1])
    return cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB)[None], box


def check_order(order: str) -> None:
    """Raise UsageError unless this is an order of channels."""
    if order not in get_args(Order):
        raise UsageError(f"order {order!r}: expected {' or '.join(get_args(Order))}")


def letterbox_image(image: Array, size_hw: tuple[int, int], pad_rgb: tuple[int, int, int]) -> tuple[Array, Letterbox]:
    """Resize an image to fit and fill the right and lower border.

    Args:
        image: (h, w, 3) uint8 RGB.
        size_hw: Height and width to fill, in pixels.
        pad_rgb: Colour of the border.

    Returns:
        (H, W, 3) uint8 RGB, and the way back.

    Raises:
        ImageError: If the image has another shape or type.
    """
    check_image(image)
    source_hw = image.shape[0], image.shape[1]
    scale = min(size_hw[0] / source_hw[0], size_hw[1] / source_hw[1])
    resized = resize_image(image, fit_size(source_hw, size_hw), scale)
    return pad_image(resized, source_hw, size_hw, pad_rgb)


def fit_size(source_hw: tuple[int, int], size_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image of this size when it is resized to fit, in pixels."""
    source_h, source_w = source_hw
    height, width = size_hw
    scale = min(height / source_h, width / source_w)
    new_h = min(height, max(1, round(source_h * scale)))
    new_w = min(width, max(1, round(source_w * scale)))
    return new_h, new_w


def pad_image(
    resized: Array, source_hw: tuple[int, int], size_hw: tuple[int, int], pad_rgb: tuple[int, int, int]
) -> tuple[Array, Letterbox]:
    """Fill the right and lower border of an image that was resized to fit.

    Args:
        resized: (h, w, 3) uint8 RGB of the size that `fit_size` gives.
        source_hw: Height and width of the source image, in pixels.
        size_hw: Height and width to fill, in pixels.
        pad_rgb: Colour of the border.

    Returns:
        (H, W, 3) uint8 RGB, and the way back.

    Raises:
        ImageError: If the image has another size or type.
    """
    check_image(resized)
    new_h, new_w = fit_size(source_hw, size_hw)
    if resized.shape[:2] != (new_h, new_w):
        raise ImageError(f"expected an image of {new_w} x {new_h} pixels, got {resized.shape[1]} x {resized.shape[0]}")
    bottom, right = size_hw[0] - new_h, size_hw[1] - new_w
    canvas = cv2.copyMakeBorder(resized, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=pad_rgb)
    return canvas, Letterbox(new_w / source_hw[1], new_h / source_hw[0], source_hw)


def resize_image(image: Array, size_hw: tuple[int, int], scale: float) -> Array:
    """Resize an image without leaving out pixels.

    Args:
        image: (h, w, 3) uint8.
        size_hw: New height and width, in pixels.
        scale: New pixels per old one, before sizes were rounded.

    Returns:
        (H, W, 3) uint8; the image itself where it has this size already.
    """
    # Each pixel counts the same as in an average of whole blocks, or nearly so at odd scales, but OpenCV averages 2 x 2
    # pixels, and 3 x 3 around each one, with vector instructions, and larger blocks without.
    while scale <= 0.25 and image.shape[0] % 2 == image.shape[1] % 2 == 0:
        image = _halve(image)
        scale *= 2
    if _THIRD[0] <= scale <= _THIRD[1]:
        return cv2.resize(cv2.blur(image, (3, 3)), size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    halvings = 0
    while scale < 0.5:  # bilinear taps leave out pixels when shrinking by more than two
        halvings += 1
        scale *= 2
    first_hw = size_hw[0] << halvings, size_hw[1] << halvings
    if image.shape[:2] != first_hw:
        image = cv2.resize(image, first_hw[::-1], interpolation=cv2.INTER_LINEAR)
    for _ in range(halvings):
        image = _halve(image)
    return image


def _halve(image: Array) -> Array:
    """Average blocks of 2 x 2; sides are even."""
    halved: Array = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return halved


def check_image(image: Array) -> None:
    """Raise ImageError unless the image is (h, w, 3) uint8 and not empty."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"expected a numpy image (h, w, 3) uint8 RGB, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ImageError(f"expected an image (h, w, 3) uint8 RGB, got {image.shape} {image.dtype}")


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, shrink: int = 1) -> Array:
    """Decode an image file, turned as its EXIF orientation says.

    Args:
        path: PNG, JPEG, WebP, BMP or TIFF.
        max_pixels: Largest image, in pixels; checked in the header, before anything is decoded.
        shrink: 2, 4 or 8 for so many times smaller sides, rounded, which costs a JPEG less time and memory.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        MissingFileError: If there is no such file.
        ImageError: If it is empty, damaged, too large or no image.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such image") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    return decode_image(data, name=str(path), max_pixels=max_pixels, shrink=shrink)


def decode_image(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS, shrink: int = 1) -> Array:
    """Decode the bytes of an image file; see `read_image`. `name` is for messages."""
    size = read_size(data)
    if size is None:
        what = "an empty file" if not data else "a file of another kind, or a damaged one"
        raise ImageError(f"{name}: expected a PNG, JPEG, WebP, BMP or TIFF image, got {what}")
    height, width = size
    if height * width > max_pixels:
        raise ImageError(f"{name}: image of {width} x {height} pixels exceeds the limit of {max_pixels:,} pixels")
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), _SHRINKING[shrink])
    except cv2.error as error:
        raise ImageError(f"{name}: image cannot be decoded") from error
    if image is None:
        raise ImageError(
            f"{name}: image cannot be decoded: the file is damaged, or its sample type (such as float) is not supported"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)

"""Images from users and for users: arrays, files and PIL images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.errors import ImageError, MissingExtraError, UnavailableError
from runtimes.preprocess import Order, read_image

Array = NDArray[Any]


class PilImage(Protocol):
    """The part of a PIL image that is used, so that PIL is not required."""

    def convert(self, mode: str | None = None) -> Any:
        """The image in another mode, such as "RGB"."""


Picture = Array | str | Path | PilImage
"""A (h, w, 3) uint8 array, the path of an image file, or a PIL image."""

CAPTION = "edge-mrcnn: detections"
"""Title of a window that shows one image."""


def open_picture(picture: Picture, order: Order = "rgb") -> tuple[Array, Order]:
    """The pixels of an image.

    Args:
        picture: A (h, w, 3) uint8 array, which is returned unchanged; the path of an image file; a PIL image. The last
            two are rotated by their EXIF orientation.
        order: Channel order of an array.

    Returns:
        The pixels and the order of their channels: "rgb" for all but arrays.

    Raises:
        MissingFileError: If there is no such file.
        ImageError: If it is not an image.
    """
    if isinstance(picture, np.ndarray):
        return picture, order
    if isinstance(picture, (str, Path)):
        return read_image(picture), "rgb"
    if "PIL" not in sys.modules or not isinstance(picture, sys.modules["PIL.Image"].Image):
        kind = type(picture).__name__
        raise ImageError(f"expected a numpy image (h, w, 3) uint8 RGB, a path or a PIL image, got {kind}")
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(picture).convert("RGB")), "rgb"


def as_rgb(image: Array, order: Order) -> Array:
    """A (H, W, 3) uint8 image with its channels as RGB."""
    return image if order == "rgb" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_image(path: Path, image: Array) -> None:
    """Write a (H, W, 3) uint8 RGB image in the format of the suffix, and make its folder.

    Raises:
        UnavailableError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        path.write_bytes(data.tobytes())
    except (OSError, cv2.error) as error:
        raise UnavailableError(f"{path}: cannot be written") from error


def show_image(image: Array) -> None:
    """Show a (H, W, 3) uint8 RGB image: in a notebook, with PIL's viewer, or in OpenCV's window until a key is pressed.

    Raises:
        MissingExtraError: If this Python has none of them.
    """
    if "ipykernel" in sys.modules:
        from IPython.display import Image, display

        display(Image(data=encode_png(image)))
        return
    try:
        from PIL.Image import fromarray
    except ModuleNotFoundError:
        _show_window(image)
    else:
        fromarray(image).show(CAPTION)


def encode_png(image: Array) -> bytes:
    """A (H, W, 3) uint8 RGB image as PNG bytes."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def _show_window(image: Array) -> None:
    try:
        cv2.imshow(CAPTION, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise MissingExtraError("show() needs pillow: pip install pillow; or write a file with save(...)") from error
    cv2.waitKey(0)
    cv2.destroyWindow(CAPTION)

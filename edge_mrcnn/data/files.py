"""Faults of image files, found in their headers and last bytes; nothing is decoded unless requested."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from edge_mrcnn.data.coco import CocoImage
from edge_mrcnn.data.orientation import read_orientation, read_sample_format
from runtimes.errors import DataError, EdgeError
from runtimes.image_header import Size, read_size
from runtimes.preprocess import MAX_PIXELS, read_image

HEAD_BYTES = 1 << 16
"""Usual length of a header; a JPEG's first segments may be longer, and then the whole file is read."""
TAIL_BYTES = 1 << 10
THUMB_SIDE = 16
"""Side of the thumbnails for comparing images, in pixels."""
BATCH = 512
"""Maximum number of files in memory."""


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without blank ones.

    Raises:
        DataError: If it is not in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


@dataclass(frozen=True)
class ImageFile:
    """Facts about a file, or its fault."""

    fault: str = ""
    """Name of a fault, or empty."""
    detail: str = ""
    bytes: int = 0
    thumb: np.ndarray | None = None
    """(256,) float32 of zero mean and unit length; None if not requested, or if the image is flat."""


def inspect_files(images: list[CocoImage], *, decode: bool, thumbs: bool) -> Iterator[ImageFile]:
    """Check the file of each image, in order.

    Args:
        images: Their paths and annotated sizes.
        decode: Decode each whole image, as training will.
        thumbs: Make thumbnails; for this, JPEGs are decoded at an eighth of their size.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), BATCH):
            yield from pool.map(lambda i: inspect_file(i, decode=decode, thumbs=thumbs), images[start : start + BATCH])


def inspect_file(image: CocoImage, *, decode: bool = False, thumbs: bool = False) -> ImageFile:
    """Check one file; see `inspect_files`."""
    if not image.path.is_file():
        return ImageFile("missing-file", str(image.path))
    try:
        header = read_header(image.path)
        fault = _find_damage(image.path, header)
        if fault is not None:
            return fault
        if decode:
            read_image(image.path)
        thumb = make_thumb(image.path, header.stored_hw) if thumbs else None
    except (OSError, EdgeError) as error:
        return ImageFile("unreadable-file", str(error))
    name, detail = compare_size(image, header.stored_hw, header.orientation)
    if not name and header.bits == 16:
        name, detail = "deep-file", ""
    return ImageFile(name, detail, header.length, thumb)


@dataclass(frozen=True)
class Header:
    """Facts from the first and last bytes of an image file."""

    stored_hw: Size
    """Height and width before rotation; (0, 0) if the header cannot be read."""
    orientation: int
    """EXIF orientation as the decoder applies it: 1 is upright, 5 to 8 swap the sides."""
    bits: int
    """Bits per sample; 8 for most files."""
    is_float: bool
    """Whether samples are not integers."""
    length: int
    """Size of the file, in bytes."""
    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)

    @property
    def shown_hw(self) -> Size:
        """Height and width of the decoded image."""
        return self.stored_hw[::-1] if self.orientation >= 5 else self.stored_hw


def read_header(path: Path) -> Header:
    """Read the header of an image file.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        count = os.fstat(file.fileno()).st_size
        size = read_size(head)
        if size is None and count > len(head):
            file.seek(0)
            head = file.read()
            size = read_size(head)
        file.seek(max(0, count - TAIL_BYTES))
        tail = file.read()
        orientation = read_orientation(file) if size is not None else 1
        bits, is_float = read_sample_format(file)
    return Header(size or (0, 0), orientation, bits, is_float, count, head, tail)


def read_shown_size(path: Path) -> Size | None:
    """Height and width of a decoded image, from its header; None if that cannot be read."""
    try:
        size = read_header(path).shown_hw
    except OSError:
        return None
    return size if size[0] else None


def _find_damage(path: Path, header: Header) -> ImageFile | None:
    """A fault of the file itself, if there is one."""
    height, width = header.stored_hw
    if not height:
        what = "an empty file" if not header.length else "no image, or a damaged header"
        return ImageFile("unreadable-file", what)
    if height * width > MAX_PIXELS:
        return ImageFile("unreadable-file", f"{width} x {height} pixels exceed the limit of {MAX_PIXELS:,}")
    if header.is_float or header.bits > 16:
        kind = "float" if header.is_float else f"{header.bits}-bit"
        return ImageFile("unreadable-file", f"{kind} samples, which have no colours of their own: write 8 or 16 bits")
    if not _is_whole(path, header.head, header.tail):
        return ImageFile("truncated-file", f"after {header.length:,} bytes")
    return None


def compare_size(image: CocoImage, stored_hw: Size, orientation: int) -> tuple[str, str]:
    """Name and detail of a fault between the annotated size and the file's, or two empty strings.

    Args:
        image: Image with its annotated size.
        stored_hw: Height and width in the file's header.
        orientation: EXIF orientation: 1 is upright, 2 to 4 keep the sides, 5 to 8 swap them.
    """
    annotated = (image.height, image.width)
    shown = stored_hw[::-1] if orientation >= 5 else stored_hw
    text = f"annotated {annotated[1]} x {annotated[0]}, file {shown[1]} x {shown[0]}"
    if shown != annotated:
        return ("exif-mismatch" if stored_hw == annotated else "size-mismatch"), text
    if orientation == 1:
        return "", ""
    return ("exif-turned" if shown != stored_hw else "exif-unclear"), f"EXIF orientation {orientation}"


def make_thumb(path: Path, size_hw: Size) -> np.ndarray | None:
    """The image as 16 x 16 gray values of zero mean and unit length; None if it is flat or cannot be decoded."""
    shrink = next((flag for side, flag in _REDUCED if min(size_hw) >= side), cv2.IMREAD_GRAYSCALE)
    gray = cv2.imdecode(np.fromfile(path, np.uint8), shrink)
    if gray is None:
        return None
    small = cv2.resize(gray, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / np.float32(length) if length > 4 * THUMB_SIDE else None


_REDUCED = ((256, cv2.IMREAD_REDUCED_GRAYSCALE_8), (128, cv2.IMREAD_REDUCED_GRAYSCALE_4))
"""Shorter side of an image, and the scale at which it may be decoded."""


def hash_file(path: Path) -> str:
    """SHA-1 of a file's bytes."""
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _is_whole(path: Path, head: bytes, tail: bytes) -> bool:
    """Whether a JPEG or PNG has its end marker. Cameras append data of their own, so if it is missing at the end, the
    whole file is searched."""
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    if not head.startswith(b"\xff\xd8") or tail.rstrip(b"\x00").endswith(b"\xff\xd9"):
        return True
    data = path.read_bytes()
    return b"\xff\xd9" in data[data.rfind(b"\xff\xda") :]

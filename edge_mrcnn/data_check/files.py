"""What is wrong with image files, from their headers and last bytes: nothing is decoded unless that is asked for."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edge_mrcnn.data.coco import CocoImage
from runtimes.errors import EdgeError
from runtimes.image_header import Size, read_size
from runtimes.preprocess import MAX_PIXELS, read_image

HEAD_BYTES = 1 << 16
"""Where a header usually ends; a JPEG's first segments may be longer, and then all of the file is read."""
TAIL_BYTES = 1 << 10
THUMB_SIDE = 16
"""Side of the thumbnails by which pictures are compared, in pixels."""
BATCH = 512
"""Files that are in memory at a time, at most."""


@dataclass(frozen=True)
class ImageFile:
    """What a file says of itself, or what is wrong with it."""

    fault: str = ""
    """Name of a fault, or empty."""
    detail: str = ""
    bytes: int = 0
    thumb: np.ndarray | None = None
    """(256,) float32 of zero mean and unit length, where that was asked for and the picture is not flat."""


def inspect_files(images: list[CocoImage], *, decode: bool, thumbs: bool) -> Iterator[ImageFile]:
    """Look at the file of each image, in order.

    Args:
        images: Their paths and annotated sizes.
        decode: Decode each whole picture, as training will.
        thumbs: Make thumbnails; JPEGs are decoded at an eighth of their size for it.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), BATCH):
            yield from pool.map(lambda i: inspect_file(i, decode=decode, thumbs=thumbs), images[start : start + BATCH])


def inspect_file(image: CocoImage, *, decode: bool = False, thumbs: bool = False) -> ImageFile:
    """Look at one file; see `inspect_files`."""
    if not image.path.is_file():
        return ImageFile("missing-file", str(image.path))
    try:
        head, tail, count = _read_ends(image.path)
        size = read_size(head)
        if size is None and count > len(head):
            head = image.path.read_bytes()
            size = read_size(head)
        if size is None:
            return ImageFile("unreadable-file", "an empty file" if not count else "no image, or a damaged header")
        if size[0] * size[1] > MAX_PIXELS:
            return ImageFile("unreadable-file", f"{size[1]} x {size[0]} pixels exceed the limit of {MAX_PIXELS:,}")
        if not _is_whole(image.path, head, tail):
            return ImageFile("truncated-file", f"after {count:,} bytes")
        if decode:
            read_image(image.path)
        thumb = make_thumb(image.path, size) if thumbs else None
    except (OSError, EdgeError) as error:
        return ImageFile("unreadable-file", str(error))
    fault, detail = compare_size(image, size, read_orientation(head))
    return ImageFile(fault, detail, count, thumb)


def compare_size(image: CocoImage, stored_hw: Size, orientation: int) -> tuple[str, str]:
    """Name and detail of the fault between the annotated size and the file's, or two empty strings.

    Args:
        image: With its annotated size.
        stored_hw: Height and width in the file's header.
        orientation: EXIF's: 1 is upright, 2 to 4 keep the sides, 5 to 8 swap them.
    """
    annotated = (image.height, image.width)
    shown = stored_hw[::-1] if orientation >= 5 else stored_hw
    text = f"annotated {annotated[1]} x {annotated[0]}, file {shown[1]} x {shown[0]}"
    if shown != annotated:
        return ("exif-mismatch" if stored_hw == annotated else "size-mismatch"), text
    if orientation == 1:
        return "", ""
    return ("exif-turned" if shown != stored_hw else "exif-unclear"), f"EXIF orientation {orientation}"


def read_orientation(head: bytes) -> int:
    """EXIF orientation, 1 to 8, from the first bytes of an image file; 1 where there is none."""
    start = head.find(b"Exif\x00\x00")
    if start < 0 or not head.startswith(b"\xff\xd8"):
        return 1
    tiff = head[start + 6 :]
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def make_thumb(path: Path, size_hw: Size) -> np.ndarray | None:
    """The picture as 16 x 16 gray values of zero mean and unit length; None if it is flat or cannot be decoded."""
    shrink = next((flag for side, flag in _REDUCED if min(size_hw) >= side), cv2.IMREAD_GRAYSCALE)
    gray = cv2.imdecode(np.fromfile(path, np.uint8), shrink)
    if gray is None:
        return None
    small = cv2.resize(gray, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / np.float32(length) if length > 4 * THUMB_SIDE else None


_REDUCED = ((256, cv2.IMREAD_REDUCED_GRAYSCALE_8), (128, cv2.IMREAD_REDUCED_GRAYSCALE_4))
"""Shorter side of a picture, and how small it may be decoded."""


def hash_file(path: Path) -> str:
    """SHA-1 of a file's bytes."""
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _read_ends(path: Path) -> tuple[bytes, bytes, int]:
    """The first and last bytes of a file, and its length."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        count = os.fstat(file.fileno()).st_size
        file.seek(max(0, count - TAIL_BYTES))
        return head, file.read(), count


def _is_whole(path: Path, head: bytes, tail: bytes) -> bool:
    """Whether a JPEG or PNG has its end marker. Cameras append data of their own, so then all of a file is searched."""
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    if not head.startswith(b"\xff\xd8") or tail.rstrip(b"\x00").endswith(b"\xff\xd9"):
        return True
    data = path.read_bytes()
    return b"\xff\xd9" in data[data.rfind(b"\xff\xda") :]

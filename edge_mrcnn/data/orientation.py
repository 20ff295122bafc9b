"""EXIF orientation of an image, as the decoder of training applies it.

OpenCV's builds differ in the formats that they rotate, so each format is tested with an image of two pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import BinaryIO

import cv2
import numpy as np

ORIENTATION_TAG = 0x0112
BITS_TAG, FORMAT_TAG = 258, 339
UNSIGNED, FLOAT = 1, 3
"""Sample formats in TIFF."""
SHORT = 3
"""TIFF's type of 16-bit numbers."""
TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*")
HEAD_BYTES = 1 << 17
"""A JPEG's EXIF segment is among its first segments, and at most 64 KB long."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_orientation(file: BinaryIO) -> int:
    """EXIF orientation that is applied when an open image file is decoded, 1 to 8; 1 if there is none, or it is
    ignored."""
    file.seek(0)
    head = file.read(16)
    for kind, (is_kind, find) in _KINDS.items():
        if is_kind(head):
            block = find(file)
            value = parse_orientation(block) if block else 1
            return value if value == 1 or decoder_turns(kind) else 1
    return 1


def parse_orientation(block: bytes) -> int:
    """Orientation in a block of TIFF tags; 1 if it has none or is damaged."""
    order = "<" if block[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", block, entry)
            if tag == ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def read_sample_format(file: BinaryIO) -> tuple[int, bool]:
    """Bits per sample of an open PNG or TIFF, and whether samples are not integers; (8, False) for other kinds."""
    file.seek(0)
    head = file.read(32)
    if head.startswith(PNG_SIGNATURE):
        return head[24], False
    if head[:4] not in TIFF_SIGNATURES:
        return 8, False
    bits = _first_short(file, BITS_TAG, 8)
    return bits, _first_short(file, FORMAT_TAG, UNSIGNED) == FLOAT


def _first_short(file: BinaryIO, wanted: int, default: int) -> int:
    """The first number of a tag of a TIFF; more than two numbers are stored elsewhere."""
    block = _find_tiff(file)
    order = "<" if block[:2] == b"II" else ">"
    try:
        (count,) = struct.unpack_from(order + "H", block, 8)
        for entry in range(10, 10 + 12 * count, 12):
            tag, kind, length, value = struct.unpack_from(order + "HHIH", block, entry)
            if tag == wanted and kind == SHORT and length <= 2:
                return int(value)
            if tag == wanted and kind == SHORT:
                (offset,) = struct.unpack_from(order + "I", block, entry + 8)
                file.seek(offset)
                (first,) = struct.unpack(order + "H", file.read(2))
                return int(first)
    except struct.error:
        pass
    return default


@cache
def decoder_turns(kind: str) -> bool:
    """Whether OpenCV applies the orientation in files of a kind: "jpeg", "png", "webp" or "tiff"."""
    tags = b"MM\x00*" + struct.pack(">IHHHIHHI", 8, 1, ORIENTATION_TAG, 3, 1, 6, 0, 0)
    probe = _PROBES[kind](tags)
    picture = cv2.imdecode(np.frombuffer(probe, np.uint8), cv2.IMREAD_COLOR)
    return picture is not None and picture.shape[0] == 2


def _find_jpeg(file: BinaryIO) -> bytes:
    file.seek(0)
    head = file.read(HEAD_BYTES)
    start = head.find(b"Exif\x00\x00")
    return head[start + 6 :] if start >= 0 else b""


def _find_png(file: BinaryIO) -> bytes:
    file.seek(len(PNG_SIGNATURE))
    while len(start := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", start)
        if name == b"eXIf":
            return file.read(length)
        file.seek(length + 4, 1)  # skip the data and the checksum of 4 bytes
    return b""


def _find_webp(file: BinaryIO) -> bytes:
    file.seek(12)
    while len(start := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", start)
        if name == b"EXIF":
            return file.read(length).removeprefix(b"Exif\x00\x00")
        file.seek(length + length % 2, 1)
    return b""


def _find_tiff(file: BinaryIO) -> bytes:
    """The file itself, up to its first directory, which may be after the pixels."""
    file.seek(0)
    start = file.read(8)
    order = "<" if start[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", start, 4)
    file.seek(directory)
    tags = file.read(2 + 12 * 512)
    return start[:4] + struct.pack(order + "I", 8) + tags


_KINDS: dict[str, tuple[Callable[[bytes], bool], Callable[[BinaryIO], bytes]]] = {
    "jpeg": (lambda head: head.startswith(b"\xff\xd8"), _find_jpeg),
    "png": (lambda head: head.startswith(PNG_SIGNATURE), _find_png),
    "webp": (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", _find_webp),
    "tiff": (lambda head: head[:4] in TIFF_SIGNATURES, _find_tiff),
}
"""Kind of file -> its first bytes, and a function that finds its block of tags."""


def _encode(suffix: str) -> bytes:
    """An image of one row and two columns."""
    return cv2.imencode(suffix, np.zeros((1, 2, 3), np.uint8))[1].tobytes()


def _jpeg_with(tags: bytes) -> bytes:
    data = _encode(".jpg")
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(tags)) + b"Exif\x00\x00" + tags
    return data[:2] + segment + data[2:]


def _png_with(tags: bytes) -> bytes:
    data = _encode(".png")
    after_header = len(PNG_SIGNATURE) + 25
    chunk = struct.pack(">I", len(tags)) + b"eXIf" + tags + struct.pack(">I", zlib.crc32(b"eXIf" + tags))
    return data[:after_header] + chunk + data[after_header:]


def _webp_with(tags: bytes) -> bytes:
    exif_flag = 8
    extended = b"VP8X" + struct.pack("<II", 10, exif_flag) + (1).to_bytes(3, "little") + (0).to_bytes(3, "little")
    chunk = b"EXIF" + struct.pack("<I", len(tags)) + tags
    body = b"WEBP" + extended + _encode(".webp")[12:] + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _tiff_with(_: bytes) -> bytes:
    """One strip of two gray pixels, the tags of orientation 6 among its own."""
    pixels_at = 8
    fields = (
        (256, 2),
        (257, 1),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, pixels_at),
        (274, 6),
        (277, 1),
        (278, 1),
        (279, 2),
    )
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in fields)
    directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", 0)
    return b"II*\x00" + struct.pack("<I", pixels_at + 2) + b"\x00\xff" + directory


_PROBES = {"jpeg": _jpeg_with, "png": _png_with, "webp": _webp_with, "tiff": _tiff_with}

"""Height and width of an image from its first bytes, so that an oversized image is refused before it is decoded.

A file of 100 KB can claim 30000 x 30000 pixels and need gigabytes to decode. PNG, JPEG, WebP, BMP and TIFF are
supported.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

Size = tuple[int, int]


def read_size(data: bytes) -> Size | None:
    """Height and width in pixels, or None if the header is damaged or of another kind of file."""
    for signature, read in _READERS:
        if data.startswith(signature):
            try:
                height, width = read(data)
            except (struct.error, ValueError):
                return None
            return (height, width) if height > 0 and width > 0 else None
    return None


def _png(data: bytes) -> Size:
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _bmp(data: bytes) -> Size:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2 header: 16-bit fields
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(height), width


def _jpeg(data: bytes) -> Size:
    """Walk the segments to the frame header (SOF0 to SOF15 without DHT, JPG and DAC)."""
    position = 2
    while True:
        marker, code, length = struct.unpack_from(">BBH", data, position)
        if marker != 0xFF:
            raise ValueError("expected the marker of a JPEG segment")
        if code == 0xFF:  # fill byte
            position += 1
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        else:
            position += 2 + length


def _webp(data: bytes) -> Size:
    """Source: WebP container specification and RFC 6386, section 9.1."""
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        raise ValueError("a RIFF file, but not a WebP image")
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def _tiff(data: bytes) -> Size:
    """Tags 256 and 257 of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    found = {}
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):
            (found[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    if len(found) != 2:
        raise ValueError("its header lacks the width or the height")
    return found[257], found[256]


_READERS: tuple[tuple[bytes, Callable[[bytes], Size]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (b"II*\x00", _tiff),
    (b"MM\x00*", _tiff),
)

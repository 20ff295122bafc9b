"""The outermost fields of a protobuf message, found without its schema and without parsing their content.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5
"""Wire types of a field."""
_LONGEST_VARINT = 10


class Field(NamedTuple):
    """A field and its position."""

    number: int
    """Number in the message's definition."""
    start: int
    """Start of its key."""
    value: int
    """Start of its content, after key and length."""
    end: int
    """Start of the next field."""


def scan_fields(data: bytes) -> Iterator[Field]:
    """The fields of a message, in the order of the file.

    Raises:
        ValueError: If this is not a message, or it is truncated.
    """
    place = 0
    while place < len(data):
        key, value = read_varint(data, place)
        end = _find_end(data, key & 7, value)
        if end.stop > len(data):
            raise ValueError(f"a field at byte {place} ends after the end of the file")
        yield Field(key >> 3, place, end.start, end.stop)
        place = end.stop


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """A number with seven bits per byte, and the position after it.

    Raises:
        ValueError: If it does not end.
    """
    number = 0
    for index, byte in enumerate(data[place : place + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, place + index + 1
    raise ValueError(f"a number at byte {place} does not end")


def write_bytes(number: int, content: bytes) -> bytes:
    """A field of text, bytes or a message."""
    return _write_varint(number << 3 | BYTES) + _write_varint(len(content)) + content


def _find_end(data: bytes, kind: int, value: int) -> range:
    """Range of a field's content, the end exclusive."""
    if kind == BYTES:
        length, start = read_varint(data, value)
        return range(start, start + length)
    if kind == VARINT:
        return range(value, read_varint(data, value)[1])
    if kind in (FIXED_64, FIXED_32):
        return range(value, value + (8 if kind == FIXED_64 else 4))
    raise ValueError(f"a field of unknown kind {kind}")


def _write_varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])

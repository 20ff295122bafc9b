"""JPEG images in an HTTP response, whatever separates them.

Real cameras write part headers in any order or none, wrong lengths, empty parts, changing boundaries. So the parts are
not parsed at all: an image begins with JPEG's start marker, followed by its own segments up to its end marker (ITU-T
T.81, annex B).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from .outlet import Outlet, Trouble
from .scaling import Scaler, SizeHw, fit_size
from .shots import AvShot, BgrShot, BrokenFrameError, Picture, Shot
from .web import Body, Response, fetch

MOST_BYTES = 64_000_000
"""Maximum size of an image; a stream without an end marker for longer is not JPEG."""
SNAPSHOT_FPS = 5.0
"""Default requests per second for an address with single images, unless the source has `fps=`."""
SNIFF_BYTES = 4096
"""Number of bytes that are examined of a response of unknown type."""

START = b"\xff\xd8\xff"
_START_OF_SCAN, _END, _NEXT_START = 0xDA, 0xD9, 0xD8
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""The end of the coded data of a scan, in which a byte FF is followed by 00 or by a restart marker, D0 to D7."""


class Jpeg(NamedTuple):
    """One image."""

    data: bytes
    has_end: bool
    """Whether it has its end marker."""


class Splitter:
    """Extracts images from bytes that arrive in pieces."""

    def __init__(self, boundary: bytes = b"") -> None:
        """

        Args:
            boundary: Separator of the parts; it ends an image without an end marker.
        """
        dashes = b"" if boundary.startswith(b"--") else b"--"
        self._boundary = dashes + boundary if boundary else b""
        self._buffer = bytearray()
        self._at = 0
        """Start of the unparsed part of the buffer; 0 before an image has begun."""
        self._is_in_scan = False
        self._is_starved = False
        """Whether more bytes are needed."""

    def feed(self, data: bytes) -> Iterator[Jpeg]:
        """Add bytes; yields the images that are complete."""
        self._buffer += data
        while (picture := self._cut()) is not None:
            yield picture
        if len(self._buffer) > MOST_BYTES:
            raise Trouble("not-a-stream", "the server responds, but not with images")

    def _cut(self) -> Jpeg | None:
        """The next complete image; None if more bytes are needed."""
        if self._at == 0 and not self._begin():
            return None
        while True:
            self._is_starved = False
            picture = self._end_of_scan() if self._is_in_scan else self._skip_segment()
            if picture is not None or self._is_starved:
                return picture

    def _begin(self) -> bool:
        start = self._buffer.find(START)
        if start < 0:
            del self._buffer[:-2]  # the marker may be split between two pieces
            return False
        del self._buffer[:start]
        self._at, self._is_in_scan = 2, False
        return True

    def _skip_segment(self) -> Jpeg | None:
        """Skip one segment of the header; returns an image only if the header is broken."""
        head = self._buffer[self._at : self._at + 4]
        if len(head) < 4:
            self._is_starved = True
            return None
        if head[0] != 0xFF:  # not a segment: a damaged header, so search for the next image
            return self._finish(self._at, has_end=False)
        if head[1] == 0xFF:  # fill byte
            self._at += 1
            return None
        if head[1] == _END:
            return self._finish(self._at + 2, has_end=True)
        length = int.from_bytes(head[2:4], "big")
        if len(self._buffer) < self._at + 2 + length:
            self._is_starved = True
            return None
        self._at += 2 + length
        self._is_in_scan = head[1] == _START_OF_SCAN
        return None

    def _end_of_scan(self) -> Jpeg | None:
        """Find the end of the coded data: a marker, or the boundary if the marker is missing."""
        marker = _MARKER.search(self._buffer, self._at)
        limit = marker.start() if marker else len(self._buffer)
        boundary = self._buffer.find(self._boundary, self._at, limit) if self._boundary else -1
        if boundary >= 0:
            return self._finish(boundary, has_end=False)
        if marker is None:
            self._at = max(self._at, len(self._buffer) - 1 - len(self._boundary))
            self._is_starved = True
            return None
        code = self._buffer[limit + 1]
        if code == _END:
            return self._finish(limit + 2, has_end=True)
        if code == _NEXT_START:
            return self._finish(limit, has_end=False)
        self._at, self._is_in_scan = limit, False  # a table or the next scan of a progressive image
        return None

    def _finish(self, end: int, *, has_end: bool) -> Jpeg:
        picture = Jpeg(bytes(self._buffer[:end]), has_end)
        del self._buffer[:end]
        self._at = 0
        return picture


class UsualEnd:
    """Decides for each image whether it is complete; FFmpeg silently draws half an image.

    Some cameras omit the end marker: until one has been seen, a missing one is accepted.
    """

    def __init__(self) -> None:
        self._is_usual = False

    def is_whole(self, has_end: bool) -> bool:
        """Whether an image with or without an end marker is complete."""
        self._is_usual = self._is_usual or has_end
        return has_end or not self._is_usual


def read_web(plan: dict[str, Any], outlet: Outlet) -> bool:
    """Read an HTTP address if it sends JPEG images.

    Returns:
        False if it sends something else, which FFmpeg may support.

    Raises:
        Trouble: If it cannot be read, is lost, or is a web page.
    """
    response = _fetch(plan)
    kind = response.headers.get("content-type", "").lower()
    if kind.startswith("text/html"):
        response.body.close()
        raise Trouble("not-a-stream", "the server sends a web page; expected the address of its video")
    beginning = _receive(response.body)
    if kind.startswith(("image/jpeg", "image/jpg")):
        _poll(plan, outlet, response, beginning)
    elif kind.startswith("multipart/") or START in beginning[:SNIFF_BYTES]:
        _read_parts(response, kind, beginning, outlet)
    else:
        response.body.close()
        return False
    return True


def _read_parts(response: Response, kind: str, beginning: bytes, outlet: Outlet) -> None:
    """Images of one endless response."""
    found = re.search(r'boundary="?([^";,\s]+)', response.headers.get("content-type", ""))
    splitter = Splitter(found[1].encode() if found else b"")
    decoder, ends, count = Decoder(), UsualEnd(), 0
    data = beginning
    while data:
        outlet.hear()
        for picture in splitter.feed(data):
            count += 1
            if ends.is_whole(picture.has_end):
                outlet.put(JpegShot(picture.data, decoder))
            else:
                outlet.damaged()
        data = _receive(response.body)
    if not count:
        raise Trouble(
            "not-a-stream", "the response ended before the first image; check that this is the address of a video"
        )


def _poll(plan: dict[str, Any], outlet: Outlet, response: Response, beginning: bytes) -> None:
    """An address of one image, requested repeatedly."""
    decoder, interval_s = Decoder(), 1 / (plan.get("fps") or SNAPSHOT_FPS)
    outlet.tell(pace_s=interval_s)
    while True:
        start = time.monotonic()
        parts = [beginning]
        while parts[-1]:
            outlet.hear()
            parts.append(_receive(response.body))
        outlet.put(JpegShot(b"".join(parts), decoder))
        response.body.close()
        time.sleep(max(0.0, start + interval_s - time.monotonic()))
        response = _fetch(plan)
        beginning = _receive(response.body)


class Decoder:
    """Decodes single JPEGs: with PyAV, or OpenCV without it."""

    def __init__(self) -> None:
        self._av: Any = None
        self._codec: Any = None
        self._scaler: Scaler | None = None
        try:
            import av
        except ModuleNotFoundError:
            return
        self._av, self._scaler = av, Scaler(av)
        self._codec = av.CodecContext.create("mjpeg", "r")
        self._codec.thread_count = 1  # several threads would delay images

    def decode(self, data: bytes) -> Shot:
        """The image in full size.

        Raises:
            BrokenFrameError: If it is damaged.
        """
        if self._scaler is None:
            return self._read_with_opencv(data, 1)
        try:
            frames = self._codec.decode(self._av.Packet(data))
        except self._av.error.FFmpegError:
            raise BrokenFrameError from None
        if not frames or frames[-1].is_corrupt:
            raise BrokenFrameError
        return AvShot(frames[-1], self._scaler)

    def decode_smaller(self, data: bytes, factor: int, size_hw: SizeHw) -> Picture:
        """The image at a small size, decoded directly at a fraction of its size (libjpeg-turbo's scaled DCT).

        Args:
            data: The JPEG.
            factor: 2, 4 or 8: the divisor of its sides in decoding.
            size_hw: Height and width of the result, in pixels.

        Raises:
            BrokenFrameError: If it is damaged.
        """
        return self._read_with_opencv(data, factor).shrink(size_hw)

    def _read_with_opencv(self, data: bytes, factor: int) -> BgrShot:
        import cv2
        import numpy as np

        flags = {1: cv2.IMREAD_COLOR}.get(factor) or getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise BrokenFrameError
        return BgrShot(image, cv2)


class JpegShot(Shot):
    """A JPEG image that is decoded only when requested: one that a newer image replaces costs nothing."""

    def __init__(self, data: bytes, decoder: Decoder) -> None:
        self._data = data
        self._decoder = decoder
        self._decoded: Shot | None = None

    @property
    def size_hw(self) -> SizeHw:
        size_hw = read_size(self._data)
        return size_hw if size_hw else self._decode().size_hw

    def small(self, input_hw: SizeHw, *, is_alone: bool) -> Picture | None:
        fit_hw = fit_size(self.size_hw, input_hw)
        factor = choose_factor(self.size_hw, fit_hw) if is_alone else 1
        if factor == 1:
            return self._decode().small(input_hw, is_alone=is_alone)
        return self._decoder.decode_smaller(self._data, factor, fit_hw)

    def whole(self) -> Picture:
        return self._decode().whole()

    def _decode(self) -> Shot:
        if self._decoded is None:
            self._decoded = self._decoder.decode(self._data)
        return self._decoded


def choose_factor(size_hw: SizeHw, fit_hw: SizeHw) -> int:
    """Divisor of the sides, 1, 2, 4 or 8, for decoding a JPEG of this size for an image of that size.

    The decoded image has at least twice the size of the model's input, so that area averaging does the last step:
    decoding directly to the input size, a JPEG with 4:2:0 colours is 43 dB from the exact image, and in this way it is
    52 dB.
    """
    most = min(size_hw[0] // (2 * fit_hw[0]), size_hw[1] // (2 * fit_hw[1]))
    return max(factor for factor in (1, 2, 4, 8) if factor <= max(1, most))


def read_size(data: bytes) -> SizeHw | None:
    """Height and width in the header of a JPEG, in pixels (ITU-T T.81, annex B.2.2); None if there is no header."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        code = data[at + 1]
        if 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            height, width = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return (height, width) if height and width else None
        is_fill = code == 0xFF
        at += 1 if is_fill else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _fetch(plan: dict[str, Any]) -> Response:
    try:
        return fetch(plan["url"], plan["timeout_s"])
    except OSError as error:
        raise _explain(error) from None


def _receive(body: Body) -> bytes:
    try:
        return body.read()
    except OSError as error:
        raise _explain(error) from None


def _explain(error: OSError) -> Trouble:
    if isinstance(error, TimeoutError):
        return Trouble("silent", "no response or no frame in time")
    if isinstance(error, ConnectionRefusedError):
        return Trouble("refused", "nothing listens at this address and port")
    return Trouble("lost", "the connection was lost")

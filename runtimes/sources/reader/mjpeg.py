"""JPEG pictures out of an HTTP answer, whatever stands between them.

Real cameras write part headers in any order or none, wrong lengths, empty parts, boundaries that change. So the parts
are not read at all: a picture begins with JPEG's start marker and is followed by its own segments to its end marker
(ITU-T T.81, annex B).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from .outlet import Outlet, RgbBuffer, Trouble, convert_array
from .web import Answer, Body, fetch

MOST_BYTES = 64_000_000
"""Largest picture; a stream that goes on without an end marker is no JPEG."""
SNAPSHOT_FPS = 5.0
"""How often an address that gives one picture is asked for the next, unless the source says `fps=`."""
SNIFF_BYTES = 4096
"""How much of an answer of unknown type is looked at."""

START = b"\xff\xd8\xff"
_START_OF_SCAN, _END, _NEXT_START = 0xDA, 0xD9, 0xD8
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
"""What ends the coded data of a scan, in which a byte FF is followed by 00 or by a restart marker, D0 to D7."""


class Jpeg(NamedTuple):
    """One picture."""

    data: bytes
    has_end: bool
    """Whether it ends with the end marker."""


class Splitter:
    """Cuts pictures out of bytes that come piece by piece."""

    def __init__(self, boundary: bytes = b"") -> None:
        """
        Args:
            boundary: What stands between the parts; it ends a picture that has no end marker.
        """
        dashes = b"" if boundary.startswith(b"--") else b"--"
        self._boundary = dashes + boundary if boundary else b""
        self._buffer = bytearray()
        self._at = 0
        """From where on the buffer is not understood yet; 0 before a picture has begun."""
        self._is_in_scan = False
        self._is_starved = False
        """Whether nothing can be said before more bytes come."""

    def feed(self, data: bytes) -> Iterator[Jpeg]:
        """Take some bytes; give the pictures that are complete."""
        self._buffer += data
        while (picture := self._cut()) is not None:
            yield picture
        if len(self._buffer) > MOST_BYTES:
            raise Trouble("not-a-stream", "the server answers, but not with pictures")

    def _cut(self) -> Jpeg | None:
        """The next complete picture; None if more bytes are needed."""
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
            del self._buffer[:-2]  # the marker may be cut in two
            return False
        del self._buffer[:start]
        self._at, self._is_in_scan = 2, False
        return True

    def _skip_segment(self) -> Jpeg | None:
        """Go past one segment of the head; a picture only if the head breaks off."""
        head = self._buffer[self._at : self._at + 4]
        if len(head) < 4:
            self._is_starved = True
            return None
        if head[0] != 0xFF:  # no segment: a damaged head, look for the next picture
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
        """Find what ends the coded data: a marker, or the boundary where the marker is missing."""
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
        self._at, self._is_in_scan = limit, False  # a table or the next scan of a progressive picture
        return None

    def _finish(self, end: int, *, has_end: bool) -> Jpeg:
        picture = Jpeg(bytes(self._buffer[:end]), has_end)
        del self._buffer[:end]
        self._at = 0
        return picture


class UsualEnd:
    """Says of one picture after the other whether it is whole; FFmpeg draws half a picture without a word.

    Some cameras leave the end marker out: until it was seen once, a missing one means nothing.
    """

    def __init__(self) -> None:
        self._is_usual = False

    def is_whole(self, has_end: bool) -> bool:
        """Whether a picture with or without an end marker is whole."""
        self._is_usual = self._is_usual or has_end
        return has_end or not self._is_usual


def read_web(plan: dict[str, Any], outlet: Outlet) -> bool:
    """Read an HTTP address if it gives JPEG pictures.

    Returns:
        False if it gives something else, which FFmpeg may know.

    Raises:
        Trouble: If it cannot be read, is lost, or is a web page.
    """
    answer = _fetch(plan)
    kind = answer.headers.get("content-type", "").lower()
    if kind.startswith("text/html"):
        answer.body.close()
        raise Trouble("not-a-stream", "the server sends a web page; look for the address of its video")
    beginning = _receive(answer.body)
    if kind.startswith(("image/jpeg", "image/jpg")):
        _poll(plan, outlet, answer, beginning)
    elif kind.startswith("multipart/") or START in beginning[:SNIFF_BYTES]:
        _read_parts(answer, kind, beginning, outlet)
    else:
        answer.body.close()
        return False
    return True


def _read_parts(answer: Answer, kind: str, beginning: bytes, outlet: Outlet) -> None:
    """Pictures one after the other in one answer without end."""
    found = re.search(r'boundary="?([^";,\s]+)', answer.headers.get("content-type", ""))
    splitter = Splitter(found[1].encode() if found else b"")
    decode, ends, count = make_decoder(), UsualEnd(), 0
    data = beginning
    while data:
        outlet.hear()
        for picture in splitter.feed(data):
            count += 1
            if ends.is_whole(picture.has_end):
                _give(decode, picture.data, outlet)
            else:
                outlet.damaged()
        data = _receive(answer.body)
    if not count:
        raise Trouble("not-a-stream", "the server ends its answer before a picture; is this the address of a video?")


def _poll(plan: dict[str, Any], outlet: Outlet, answer: Answer, beginning: bytes) -> None:
    """An address of one picture, asked again and again."""
    decode, interval_s = make_decoder(), 1 / (plan.get("fps") or SNAPSHOT_FPS)
    outlet.tell(pace_s=interval_s)
    while True:
        start = time.monotonic()
        parts = [beginning]
        while parts[-1]:
            outlet.hear()
            parts.append(_receive(answer.body))
        _give(decode, b"".join(parts), outlet)
        answer.body.close()
        time.sleep(max(0.0, start + interval_s - time.monotonic()))
        answer = _fetch(plan)
        beginning = _receive(answer.body)


def _give(decode: Callable[[bytes], Callable[[], RgbBuffer] | None], data: bytes, outlet: Outlet) -> None:
    convert = decode(data)
    if convert is None:
        outlet.damaged()
    else:
        outlet.put(convert)


def make_decoder() -> Callable[[bytes], Callable[[], RgbBuffer] | None]:
    """What decodes one JPEG: by PyAV, or OpenCV without it. It gives what makes RGB of it, None if it is broken."""
    try:
        import av
    except ModuleNotFoundError:
        return _decode_with_opencv
    codec = av.CodecContext.create("mjpeg", "r")
    codec.thread_count = 1  # several would hold pictures back
    return partial(_decode, av, codec)


def _decode(av: Any, codec: Any, data: bytes) -> Callable[[], RgbBuffer] | None:
    try:
        frames = codec.decode(av.Packet(data))
    except av.error.FFmpegError:
        return None
    if not frames or frames[-1].is_corrupt:
        return None
    return partial(convert_frame, frames[-1])


def _decode_with_opencv(data: bytes) -> Callable[[], RgbBuffer] | None:
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else partial(convert_array, image, cv2)


def convert_frame(frame: Any) -> RgbBuffer:
    """A frame of PyAV as RGB."""
    rgb = frame.reformat(format="rgb24")
    return RgbBuffer(memoryview(rgb.planes[0]), rgb.height, rgb.width, rgb.planes[0].line_size)


def _fetch(plan: dict[str, Any]) -> Answer:
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
        return Trouble("silent", "no answer or no frame in time")
    if isinstance(error, ConnectionRefusedError):
        return Trouble("refused", "nothing listens at this address and port")
    return Trouble("lost", "the connection broke")

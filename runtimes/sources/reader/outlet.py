"""The accounts of one connection, and the newest frame, which goes out when it is asked for."""

from __future__ import annotations

import json
import mmap
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

REPORT_S = 0.2
"""Seconds between two reports while nobody asks for frames."""


class Trouble(Exception):
    """Why the source cannot be read: a code of `runtimes.sources.CODES`, and words without secrets."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class RgbBuffer(NamedTuple):
    """8-bit RGB in memory."""

    data: memoryview
    """`height` rows of `stride` bytes, each beginning with `width` pixels of three bytes."""
    height: int
    width: int
    stride: int


class Outlet:
    """Counts frames, keeps the newest, and hands it over when it was asked for; for two threads."""

    def __init__(self, channel: socket.socket, memory: int) -> None:
        self._channel = channel
        self._memory = memory
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()
        self._counts = {"received": 0, "late": 0, "damaged": 0}
        self._newest: Callable[[], RgbBuffer] | None = None
        self._arrived = 0.0
        self._heard = 0.0
        self._is_wanted = False
        self._reported = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether a frame was decoded, which alone proves a connection."""
        return self._arrived > 0

    def hear(self) -> None:
        """Data of the stream came, a whole frame or not: the source is alive."""
        with self._lock:
            self._heard = time.monotonic()
            self._report_sometimes()

    def put(self, convert: Callable[[], RgbBuffer]) -> None:
        """A frame was decoded; `convert` makes RGB of it."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["late"] += self._newest is not None
            self._newest, self._arrived = convert, time.monotonic()
            if self._is_wanted:
                self._give()
            else:
                self._report_sometimes()

    def damaged(self) -> None:
        """A frame came that the decoder calls broken."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["damaged"] += 1
            self._report_sometimes()

    def ask(self) -> None:
        """The newest frame is wanted: now, or as soon as there is one."""
        with self._lock:
            self._is_wanted = True
            if self._newest is not None:
                self._give()

    def tell(self, **fields: object) -> None:
        """Send a report with the counts as they stand."""
        with self._lock:
            self._report(**fields)

    def _give(self) -> None:
        assert self._newest is not None
        picture = self._newest()
        self._newest, self._is_wanted = None, False
        self._share(picture)
        self._report(
            height=picture.height, width=picture.width, stride=picture.stride, index=self._counts["received"] - 1
        )

    def _share(self, picture: RgbBuffer) -> None:
        """Copy a picture into the shared memory, which grows with it; it is taken out before the next is asked for."""
        size = picture.height * picture.stride
        if self._map is None or len(self._map) < size:
            os.ftruncate(self._memory, size)
            self._map = mmap.mmap(self._memory, size)
        self._map[:size] = picture.data[:size]

    def _report_sometimes(self) -> None:
        if time.monotonic() - self._reported > REPORT_S:
            self._report()

    def _report(self, **fields: object) -> None:
        self._reported = time.monotonic()
        report = {
            **self._counts,
            "waiting": int(self._newest is not None),
            "arrived": self._arrived,
            "heard": self._heard,
            **fields,
        }
        self._channel.sendall(json.dumps(report).encode() + b"\n")


def convert_array(image: Any, cv2: Any = None) -> RgbBuffer:
    """A (H, W, 3) uint8 array as RGB; one of OpenCV, which is BGR, with `cv2`."""
    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if cv2 else image.copy()
    height, width = rgb.shape[:2]
    return RgbBuffer(memoryview(rgb).cast("B"), height, width, 3 * width)

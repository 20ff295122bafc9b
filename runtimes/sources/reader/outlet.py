"""The frame counts of one connection, and the newest frame, which is handed out on request."""

from __future__ import annotations

import json
import mmap
import os
import socket
import threading
import time
from typing import Any

from .scaling import SizeHw, can_shrink
from .shots import BrokenFrameError, Picture, Shot

REPORT_S = 0.2
"""Seconds between two reports without requests."""
ALIGNMENT = 64
"""Alignment of planes, in bytes."""


class Trouble(Exception):
    """Why the source cannot be read: a code of `runtimes.sources.CODES`, and a message without secrets."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class Slot:
    """A part of memory that both processes share; this one writes to it when the other requests a frame there."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def write(self, pictures: list[Picture]) -> list[list[list[int]]]:
        """Copy the planes of images, one after another.

        Returns:
            For each image, for each plane: its offset, its rows, and their bytes.
        """
        places, end = [], 0
        for picture in pictures:
            own = []
            for plane in picture.planes:
                own.append([end, plane.rows, plane.stride])
                size = plane.rows * plane.stride
                end += -(-size // ALIGNMENT) * ALIGNMENT
            places.append(own)
        memory = self._grow(end)
        for picture, own in zip(pictures, places, strict=True):
            for plane, (start, count, stride) in zip(picture.planes, own, strict=True):
                memory[start : start + count * stride] = plane.data[: count * stride]
        return places

    def _grow(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            os.ftruncate(self._descriptor, size)
            self._map = mmap.mmap(self._descriptor, size)
        return self._map


class Outlet:
    """Counts frames, keeps the newest, and hands it out on request; used by two threads."""

    def __init__(self, channel: socket.socket, memory: list[int], input_hw: SizeHw | None = None) -> None:
        """

        Args:
            channel: Socket for reports.
            memory: Descriptors of the shared memory.
            input_hw: Height and width of the model's input, in pixels.
        """
        self._channel = channel
        self._slots = [Slot(descriptor) for descriptor in memory]
        self._input_hw = input_hw
        self._lock = threading.Lock()
        self._counts = {"received": 0, "late": 0, "damaged": 0}
        self._newest: Shot | None = None
        self._came = 0.0
        """Time of the newest frame."""
        self._arrived = 0.0
        self._heard = 0.0
        self._wanted: tuple[int, bool] | None = None
        """The number of the slot for the requested frame, and whether its whole image is wanted."""
        self._reported = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether a frame was decoded, which alone proves a working connection."""
        return self._arrived > 0

    def hear(self) -> None:
        """Data of the stream came, a whole frame or not: the source is alive."""
        with self._lock:
            self._heard = time.monotonic()
            self._report_sometimes()

    def put(self, shot: Shot) -> None:
        """A frame came."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["late"] += self._newest is not None
            self._newest, self._came = shot, time.monotonic()
            if self._wanted is not None:
                self._give(*self._wanted)
            else:
                self._arrived = self._came
                self._report_sometimes()

    def damaged(self) -> None:
        """A frame came that is damaged according to the decoder."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["damaged"] += 1
            self._report_sometimes()

    def ask(self, slot: int, is_whole: bool) -> None:
        """Request the newest frame: now, or as soon as there is one.

        Args:
            slot: The part of shared memory for it.
            is_whole: Whether any output may use the whole image; else the model's input is enough.
        """
        with self._lock:
            self._wanted = slot, is_whole
            if self._newest is not None:
                self._give(slot, is_whole)

    def tell(self, **fields: object) -> None:
        """Send a report with the current counts."""
        with self._lock:
            self._report(**fields)

    def _give(self, slot: int, is_whole: bool) -> None:
        """Hand out the newest frame, unless it is damaged: then wait for the next one."""
        shot, self._newest = self._newest, None
        assert shot is not None
        try:
            input_hw, small = self._input_hw, None
            if input_hw and can_shrink(shot.size_hw, input_hw):
                small = shot.small(input_hw, is_alone=not is_whole)
            whole = shot.whole() if is_whole or small is None else None
        except BrokenFrameError:
            self._counts["damaged"] += 1
            self._report_sometimes()
            return
        pictures = [picture for picture in (small, whole) if picture]
        places = self._slots[slot].write(pictures)
        self._wanted, self._arrived = None, self._came
        self._report(
            index=self._counts["received"] - 1,
            size_hw=shot.size_hw,
            small=describe(small, places[0]) if small else None,
            whole=describe(whole, places[-1]) if whole else None,
        )

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


def describe(picture: Picture, places: list[list[int]]) -> dict[str, Any]:
    """An image in shared memory, for the other process."""
    return {
        "size_hw": picture.size_hw,
        "form": picture.form,
        "colorspace": picture.colorspace,
        "color_range": picture.color_range,
        "planes": places,
    }

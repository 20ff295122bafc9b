"""The accounts of one connection, and the newest frame, which goes out when it is asked for."""

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
"""Seconds between two reports while nobody asks for frames."""
ALIGNMENT = 64
"""Planes begin at multiples of so many bytes."""


class Trouble(Exception):
    """Why the source cannot be read: a code of `runtimes.sources.CODES`, and words without secrets."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


class Slot:
    """A piece of memory that both processes share; this one writes into it when the other asks for a frame there."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def write(self, pictures: list[Picture]) -> list[list[list[int]]]:
        """Copy the planes of pictures, one after the other.

        Returns:
            For each picture, for each plane: where it begins, its rows, and their bytes.
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
    """Counts frames, keeps the newest, and hands it over when it was asked for; for two threads."""

    def __init__(self, channel: socket.socket, memory: list[int], input_hw: SizeHw | None = None) -> None:
        """
        Args:
            channel: Where reports go.
            memory: Descriptors of the pieces of shared memory.
            input_hw: Height and width of the input of the model that reads the frames, in pixels.
        """
        self._channel = channel
        self._slots = [Slot(descriptor) for descriptor in memory]
        self._input_hw = input_hw
        self._lock = threading.Lock()
        self._counts = {"received": 0, "late": 0, "damaged": 0}
        self._newest: Shot | None = None
        self._came = 0.0
        """When the newest frame came."""
        self._arrived = 0.0
        self._heard = 0.0
        self._wanted: tuple[int, bool] | None = None
        """The number of the slot where a frame is wanted, and whether its whole picture is."""
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
        """A frame came that the decoder calls broken."""
        with self._lock:
            self._counts["received"] += 1
            self._counts["damaged"] += 1
            self._report_sometimes()

    def ask(self, slot: int, is_whole: bool) -> None:
        """The newest frame is wanted: now, or as soon as there is one.

        Args:
            slot: The piece of shared memory that it is written to.
            is_whole: Whether somebody may look at the whole picture; else what a model reads is enough.
        """
        with self._lock:
            self._wanted = slot, is_whole
            if self._newest is not None:
                self._give(slot, is_whole)

    def tell(self, **fields: object) -> None:
        """Send a report with the counts as they stand."""
        with self._lock:
            self._report(**fields)

    def _give(self, slot: int, is_whole: bool) -> None:
        """Hand the newest frame over, unless it turns out to be broken: then the next one is waited for."""
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
    """A picture in shared memory, for the other process."""
    return {
        "size_hw": picture.size_hw,
        "form": picture.form,
        "colorspace": picture.colorspace,
        "color_range": picture.color_range,
        "planes": places,
    }

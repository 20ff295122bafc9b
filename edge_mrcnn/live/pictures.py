"""Drawn pictures for those who look, and nothing when nobody does.

The loop only leaves its newest frame here. A thread draws and encodes it once for all viewers, at most `MAX_FPS` times
a second, and only for a source and size that somebody asked for in the last seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2

from edge_mrcnn.live.result import LiveResult

StartThread = Callable[[Callable[[], None], str], threading.Thread]
"""Does something in a thread of a name."""

MAX_FPS = 15.0
"""Pictures of one source per second."""
SIDES = {"large": 1280, "small": 640}
"""Name of a size -> longer side of the picture, in pixels: for a screen, and for a phone or one of several pictures."""
ENLARGED = 2.0
"""How much larger lines and text of small pictures are than elsewhere, since they are looked at on small screens."""
QUALITY = 80
"""JPEG quality."""
KEEP_S = 1.0
"""Seconds between two pictures that are kept while nobody looks."""
INTEREST_S = 3.0
"""Seconds for which one look keeps the pictures of a source coming."""


class EncodedPicture(NamedTuple):
    """An encoded picture of a source."""

    number: int
    """Rises by one with each picture of the source, from 1."""
    jpeg: bytes


@dataclass
class _Slot:
    """Pictures of one source in one size."""

    newest: LiveResult | None = None
    """The result that was not drawn yet."""
    picture: EncodedPicture | None = None
    looked_s: float = float("-inf")
    drawn_s: float = float("-inf")


class PictureEncoder:
    """Encodes the newest frame of each source for viewers; close it when done."""

    def __init__(self, start_thread: StartThread) -> None:
        """Begin to wait for somebody who looks.

        Args:
            start_thread: Starts the thread that draws, and hears of what it raises.
        """
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._kept_s: dict[str, float] = {}
        """Source -> when a frame with its picture came last."""
        self._changed = threading.Condition()
        self.is_closed = False
        self._thread = start_thread(self._run, "page pictures")

    def wants_picture(self, source: str) -> bool:
        """Whether the picture of the next frame of a source is to be kept: while somebody looks, and else one a second,
        so that who comes sees something at once, also of a source that has stalled."""
        now = time.monotonic()
        if now - self._kept_s.get(source, 0.0) > KEEP_S:
            return True
        looks = [slot.looked_s for (name, _), slot in list(self._slots.items()) if name == source]
        return any(now - looked_s < INTEREST_S for looked_s in looks)

    def put(self, result: LiveResult) -> None:
        """Leave the result of a frame; costs a lock and a reference."""
        if not result.frame.pixels.is_kept:
            return
        now = time.monotonic()
        self._kept_s[result.frame.source] = now
        with self._changed:
            slots = [self._slots.setdefault((result.frame.source, size), _Slot()) for size in SIDES]
            for slot in slots:
                slot.newest = result
            if any(now - slot.looked_s < INTEREST_S for slot in slots):
                self._changed.notify_all()

    def wait(self, source: str, size: str, after: int, timeout_s: float) -> EncodedPicture | None:
        """The newest picture of a source.

        Args:
            source: Its name.
            size: One of `SIDES`.
            after: Number of the picture that the viewer has; 0 for none.
            timeout_s: Seconds to wait for a newer one.

        Returns:
            A picture with another number; None if there was none in time.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            slot = self._slots.setdefault((source, size), _Slot())
            if slot.picture and slot.newest and time.monotonic() - slot.looked_s > INTEREST_S:
                after = slot.picture.number  # of when somebody looked last; a newer frame waits to be drawn
            # Once: two who wait would wake each other without end.
            slot.looked_s = time.monotonic()
            self._changed.notify_all()
            while not self.is_closed:
                slot.looked_s = time.monotonic()
                if slot.picture and slot.picture.number != after:
                    return slot.picture
                if slot.looked_s >= deadline:
                    return None
                self._changed.wait(min(deadline - slot.looked_s, INTEREST_S / 2))
            return None

    def close(self) -> None:
        """End the thread and let waiting viewers go."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while (job := self._next_job()) is not None:
            size, slot, result = job
            jpeg = encode(result, size)
            with self._changed:
                slot.picture = EncodedPicture(slot.picture.number + 1 if slot.picture else 1, jpeg)
                self._changed.notify_all()

    def _next_job(self) -> tuple[str, _Slot, LiveResult] | None:
        """Wait until somebody looks at a source that has a new frame; None at the end."""
        with self._changed:
            while not self.is_closed:
                now = time.monotonic()
                pending = [key for key, s in self._slots.items() if s.newest and now - s.looked_s < INTEREST_S]
                key = min(pending, key=lambda key: self._slots[key].drawn_s, default=None)
                if key is None:
                    self._changed.wait()
                    continue
                slot = self._slots[key]
                rest_s = slot.drawn_s + 1 / MAX_FPS - now
                if rest_s > 0 or slot.newest is None:
                    self._changed.wait(rest_s)
                    continue
                result, slot.newest, slot.drawn_s = slot.newest, None, now
                return key[1], slot, result
        return None


def encode(result: LiveResult, size: str) -> bytes:
    """The drawn picture of a result in one of `SIDES`, as JPEG."""
    image = result.drawn_for_screen(SIDES[size], ENLARGED if size == "small" else 1.0)
    cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes()

"""Encoded pictures for viewers; nothing is drawn without viewers.

The loop only leaves its newest frame here. A thread draws and encodes it once for all viewers, at most `MAX_FPS` times
a second, and only for sources and sizes that were requested in the last seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2

from edge_mrcnn.live.result import LiveResult

StartThread = Callable[[Callable[[], None], str], threading.Thread]
"""Starts a named thread that runs a function."""

MAX_FPS = 15.0
"""Maximum number of pictures of one source per second."""
SIDES = {"large": 1280, "small": 640}
"""Name of a size -> longer side of the picture, in pixels: for a large screen, and for a phone or a page with several
sources."""
ENLARGED = 2.0
"""Scale of lines and text in small pictures, which are shown on small screens."""
QUALITY = 80
"""JPEG quality."""
KEEP_S = 1.0
"""Seconds between two kept frames without viewers."""
INTEREST_S = 3.0
"""Seconds for which one request keeps the pictures of a source coming."""


class EncodedPicture(NamedTuple):
    """An encoded picture of a source."""

    number: int
    """Increases by one with each picture of the source, from 1."""
    jpeg: bytes
    shown: dict[str, Any]
    """What the picture shows; see `LiveResult.shown`."""


@dataclass
class _Slot:
    """Pictures of one source in one size."""

    newest: LiveResult | None = None
    """The newest result, if it has not been drawn yet."""
    picture: EncodedPicture | None = None
    looked_s: float = float("-inf")
    drawn_s: float = float("-inf")


class PictureEncoder:
    """Encodes the newest frame of each source for viewers; close it when done."""

    def __init__(self, start_thread: StartThread) -> None:
        """Start the thread, which waits for viewers.

        Args:
            start_thread: Starts the thread that draws, and handles its exceptions.
        """
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._kept_s: dict[str, float] = {}
        """Source -> time of the last frame whose image was kept."""
        self._changed = threading.Condition()
        self.is_closed = False
        self._thread = start_thread(self._run, "page pictures")

    def wants_picture(self, source: str) -> bool:
        """Whether the image of the next frame of a source is kept: for every frame with viewers, else once a second.

        So a new viewer sees a picture at once, even of a source that has stalled.
        """
        now = time.monotonic()
        if now - self._kept_s.get(source, 0.0) > KEEP_S:
            return True
        looks = [slot.looked_s for (name, _), slot in list(self._slots.items()) if name == source]
        return any(now - looked_s < INTEREST_S for looked_s in looks)

    def put(self, result: LiveResult) -> None:
        """Keep the result of a frame; costs a lock and a reference."""
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
        """Wait for a new picture of a source.

        Args:
            source: Name of the source.
            size: One of `SIDES`.
            after: Number of the viewer's last picture; 0 for none.
            timeout_s: Maximum seconds to wait for a newer picture.

        Returns:
            A picture with another number; None if there was none in time.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            slot = self._slots.setdefault((source, size), _Slot())
            if slot.picture and slot.newest and time.monotonic() - slot.looked_s > INTEREST_S:
                after = slot.picture.number  # An old picture of the last viewer; a newer frame is waiting to be drawn.
            # Notify only once: two waiting viewers would wake each other endlessly.
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
        """Stop the thread and release waiting viewers."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while (job := self._next_job()) is not None:
            size, slot, result = job
            jpeg = encode(result, size)
            with self._changed:
                number = slot.picture.number + 1 if slot.picture else 1
                slot.picture = EncodedPicture(number, jpeg, result.shown())
                self._changed.notify_all()

    def _next_job(self) -> tuple[str, _Slot, LiveResult] | None:
        """Wait until a source with viewers has a new frame; None at the end."""
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

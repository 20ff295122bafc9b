"""Drawn pictures for those who look, and nothing when nobody does.

The loop only leaves its newest frame here. A thread draws and encodes it once for all viewers, at most `MAX_FPS` times
a second, and only for a source and size that somebody asked for in the last seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes import Detections
from runtimes.draw import Style, draw_detections
from runtimes.preprocess import resize_image
from runtimes.sources import Frame

Array = NDArray[Any]
Overlay = Callable[[str, Array, Style], None]
"""Draws what is not a detection into a picture of a source: lines, zones and their counts."""

MAX_FPS = 15.0
"""Pictures of one source per second."""
SIDES = {"large": 1280, "small": 640}
"""Name of a size -> longer side of the picture, in pixels: for a screen, and for a phone or one of several pictures."""
ENLARGED = 2.0
"""How much larger lines and text of small pictures are than elsewhere, since they are looked at on small screens."""
QUALITY = 80
"""JPEG quality."""
INTEREST_S = 3.0
"""Seconds for which one look keeps the pictures of a source coming."""


class Picture(NamedTuple):
    """An encoded picture of a source."""

    number: int
    """Rises by one with each picture of the source, from 1."""
    jpeg: bytes


@dataclass
class _Slot:
    """Pictures of one source in one size."""

    newest: tuple[Frame, Detections] | None = None
    """The result that was not drawn yet."""
    picture: Picture | None = None
    looked_s: float = float("-inf")
    drawn_s: float = float("-inf")


class PictureEncoder:
    """Encodes the newest frame of each source for viewers; close it when done."""

    def __init__(self, overlay: Overlay | None = None) -> None:
        self._overlay = overlay
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._changed = threading.Condition()
        self.is_closed = False
        self._thread = threading.Thread(target=self._run, name="pictures", daemon=True)
        self._thread.start()

    def put(self, frame: Frame, found: Detections) -> None:
        """Leave a frame with its detections; costs a lock and two references."""
        now = time.monotonic()
        with self._changed:
            slots = [self._slots.setdefault((frame.source, size), _Slot()) for size in SIDES]
            for slot in slots:
                slot.newest = (frame, found)
            if any(now - slot.looked_s < INTEREST_S for slot in slots):
                self._changed.notify_all()

    def wait(self, source: str, size: str, after: int, timeout_s: float) -> Picture | None:
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
            while not self.is_closed:
                slot.looked_s = time.monotonic()
                if slot.picture and slot.picture.number != after:
                    return slot.picture
                if slot.looked_s >= deadline:
                    return None
                self._changed.notify_all()
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
            size, slot, frame, found = job
            jpeg = self._encode(frame, found, size)
            with self._changed:
                slot.picture = Picture(slot.picture.number + 1 if slot.picture else 1, jpeg)
                self._changed.notify_all()

    def _next_job(self) -> tuple[str, _Slot, Frame, Detections] | None:
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
                (frame, found), slot.newest, slot.drawn_s = slot.newest, None, now
                return key[1], slot, frame, found
        return None

    def _encode(self, frame: Frame, found: Detections, size: str) -> bytes:
        image, found = shrink(frame.image, found, SIDES[size])
        factor = ENLARGED if size == "small" else 1.0
        style = Style.for_size(*(round(factor * side) for side in image.shape[:2]))
        draw_detections(image, found, style=style)
        if self._overlay:
            self._overlay(frame.source, image, style)
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image)
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        return data.tobytes()


def shrink(image: Array, found: Detections, max_side: int) -> tuple[Array, Detections]:
    """A copy of an image that fits into a square, and its detections at the new size.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: Detections of that image.
        max_side: Side of the square, in pixels; a smaller image keeps its size.
    """
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image.copy(), found
    size_hw = max(1, round(height * scale)), max(1, round(width * scale))
    ratio_xy = np.array([size_hw[1] / width, size_hw[0] / height], dtype=np.float32)
    offset_x, offset_y = (np.array(found.mask_offset_xy) * ratio_xy).tolist()
    smaller = resize_image(image, size_hw, scale)
    boxes = found.boxes_xyxy * np.tile(ratio_xy, 2)
    return smaller, replace(found, boxes_xyxy=boxes, image_size_hw=size_hw, mask_offset_xy=(offset_x, offset_y))

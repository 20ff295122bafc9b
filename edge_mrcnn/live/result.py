"""A frame with its detections, and its picture, which is drawn once for all outputs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mrcnn.live.monitor import count_classes
from runtimes import Detections
from runtimes.draw import SMALLEST_FONT, Style, draw_detections, draw_panel
from runtimes.preprocess import resize_image
from runtimes.sources import Frame

Array = NDArray[Any]
Overlay = Callable[[str, Array, Style | None], Mapping[str, Any]]
"""Draws the lines and zones of a source with their counts into a picture, and returns the counts."""


class LiveResult:
    """A frame with its detections and its drawing, for the outputs."""

    def __init__(
        self,
        frame: Frame,
        found: Detections,
        *,
        is_live: bool = False,
        is_frame_kept: bool = True,
        is_whole_wanted: bool = False,
        panel: Sequence[str] = (),
        fps: float | None = None,
        overlay: Overlay | None = None,
        add_times: Callable[[str, Mapping[str, float]], None] | None = None,
    ) -> None:
        """Make one; nothing is drawn yet.

        Args:
            frame: The frame.
            found: Its detections above the score threshold.
            is_live: Whether its source is live and does not wait for the loop.
            is_frame_kept: Whether an output needs the frame without drawing; else it is drawn on the frame itself.
            is_whole_wanted: Whether an output uses every picture in full size, so that smaller ones are made from it.
            panel: Lines of text in the corner of the full picture.
            fps: Frames per second, as the panel states it.
            overlay: Draws lines and zones.
            add_times: Takes the source and the milliseconds that drawing took.
        """
        self.frame = frame
        self.found = found
        self.is_live = is_live
        self._is_frame_kept = is_frame_kept
        self._is_whole_wanted = is_whole_wanted
        self._panel = panel
        self._fps = fps
        self._overlay = overlay
        self._add_times = add_times
        self._lock = threading.Lock()
        self._drawn: Array | None = None
        self._counts: Mapping[str, Any] | None = None
        """Counts of lines and zones as they were drawn last."""

    def shown(self) -> dict[str, Any]:
        """What the drawn picture shows, ready for JSON, so that text beside it can agree with it.

        Returns:
            "objects": class -> number of objects; "counts": those of lines and zones, if there are any; "fps": frames
            per second, if the picture states it.
        """
        facts: dict[str, Any] = {"objects": dict(count_classes(self.found).most_common())}
        if self._counts is not None:
            facts["counts"] = self._counts
        if self._fps is not None and self._drawn is not None:
            facts["fps"] = round(self._fps, 1)
        return facts

    def drawn(self) -> Array:
        """The full picture with everything drawn: (H, W, 3) uint8 RGB, not to be changed.

        Drawn at the first call, from any thread; later calls return the same array.
        """
        with self._lock:
            if self._drawn is None:
                self._drawn = self._draw_whole()
            return self._drawn

    def drawn_for_screen(self, max_side: int, enlarged: float = 1.0) -> Array:
        """The picture for a smaller screen.

        Args:
            max_side: Maximum length of the longer side, in pixels.
            enlarged: Scale of lines and text, for small screens.

        Returns:
            (h, w, 3) uint8 RGB, owned by the caller. It is made from the full picture if an output uses that anyway and
            its text stays readable.
        """
        height, width = self.frame.size_hw
        scale = min(1.0, max_side / max(height, width))
        is_readable = Style.for_size(height, width).font_scale * scale >= SMALLEST_FONT
        if self._is_whole_wanted and is_readable:
            return shrink_image(self.drawn(), scale)
        size_hw = shrunk_size((height, width), scale)
        image, found = self.frame.pixels.resized(size_hw), resize_found(self.found, size_hw)
        style = Style.for_size(*(round(enlarged * side) for side in image.shape[:2]))
        draw_detections(image, found, style=style)
        if self._overlay:
            self._counts = self._overlay(self.frame.source, image, style)
        return image

    def plain_for_screen(self, max_side: int) -> Array:
        """The frame without drawing, with a maximum length of the longer side: uint8 RGB, owned by the caller.

        Only for outputs with `keeps_frames`; for others the frame itself is drawn on.
        """
        height, width = self.frame.size_hw
        return self.frame.pixels.resized(shrunk_size((height, width), min(1.0, max_side / max(height, width))))

    def _draw_whole(self) -> Array:
        start = time.perf_counter()
        image: Array = self.frame.image.copy() if self._is_frame_kept else self.frame.image
        draw_detections(image, self.found)
        if self._overlay:
            self._counts = self._overlay(self.frame.source, image, None)
        if self._panel:
            draw_panel(image, self._panel)
        if self._add_times:
            self._add_times(self.frame.source, {"draw": 1e3 * (time.perf_counter() - start)})
        return image


def shrink(image: Array, found: Detections, max_side: int) -> tuple[Array, Detections]:
    """A copy of an image that fits into a square, and its detections at the new size.

    Args:
        image: (H, W, 3) uint8 RGB.
        found: Detections of that image.
        max_side: Side of the square, in pixels; a smaller image keeps its size.
    """
    smaller = shrink_image(image, max_side / max(image.shape[:2]))
    return smaller, resize_found(found, (smaller.shape[0], smaller.shape[1]))


def resize_found(found: Detections, size_hw: tuple[int, int]) -> Detections:
    """The detections of an image that is resized to another height and width, in pixels."""
    height, width = found.image_size_hw
    if size_hw == (height, width):
        return found
    ratio_xy = np.array([size_hw[1] / width, size_hw[0] / height], dtype=np.float32)
    offset_x, offset_y = (np.array(found.mask_offset_xy) * ratio_xy).tolist()
    boxes = found.boxes_xyxy * np.tile(ratio_xy, 2)
    return replace(found, boxes_xyxy=boxes, image_size_hw=size_hw, mask_offset_xy=(offset_x, offset_y))


def shrink_image(image: Array, scale: float) -> Array:
    """A resized copy of a (H, W, 3) uint8 image; a scale of 1 or more keeps its size."""
    if scale >= 1:
        return image.copy()
    smaller: Array = resize_image(image, shrunk_size((image.shape[0], image.shape[1]), scale), scale)
    return smaller


def shrunk_size(size_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width multiplied by a scale of at most 1, in pixels."""
    height, width = size_hw
    return max(1, round(height * scale)), max(1, round(width * scale))

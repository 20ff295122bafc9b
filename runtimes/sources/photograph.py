"""A view that moves over photographs of people: a live source with objects to detect, for machines without a camera."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import cv2
import numpy as np

from runtimes.preprocess import read_image
from runtimes.sources.base import Array, Frame, Source

SIZE_HW = (480, 640)
WALL_HEIGHT = 512
"""Height in pixels to which each photograph is scaled before they are placed side by side."""
WALK_S = 30.0
"""Seconds for a pan over all photographs and back."""
ZOOM_S = 11.0
"""Seconds for a zoom in and out; not a divisor of the pan time, so that views rarely repeat."""
NEAREST = 0.7
"""Height of the closest view, as a share of the panorama's height."""


class PhotographSource(Source):
    """A camera that pans and zooms over photographs, at a constant frame rate."""

    is_live = True

    def __init__(
        self, name: str, paths: Sequence[Path], *, size_hw: tuple[int, int] = SIZE_HW, fps: float = 30.0
    ) -> None:
        """Make one.

        Args:
            name: Its name.
            paths: The photographs, from left to right.
            size_hw: Height and width of a frame, in pixels.
            fps: Frames per second.
        """
        super().__init__(name)
        self.fps = fps
        self._paths = list(paths)
        self._size_hw = size_hw

    def reads(self) -> list[Path]:
        """The photographs."""
        return self._paths

    def __iter__(self) -> Generator[Frame, None, None]:
        assert self.fps
        wall = hang(self._paths)
        start, index = time.monotonic(), 0
        while True:
            time.sleep(max(0.0, start + index / self.fps - time.monotonic()))
            time_s = index / self.fps
            yield Frame(look_at(wall, self._size_hw, time_s), index, time_s, self.name)
            index += 1


def hang(paths: Sequence[Path]) -> Array:
    """Photographs side by side, all with the same height: (H, W, 3) uint8 RGB."""
    scaled = []
    for path in paths:
        image = read_image(path)
        width = round(image.shape[1] * WALL_HEIGHT / image.shape[0])
        scaled.append(cv2.resize(image, (width, WALL_HEIGHT), interpolation=cv2.INTER_AREA))
    return np.concatenate(scaled, axis=1)


def look_at(wall: Array, size_hw: tuple[int, int], time_s: float) -> Array:
    """The camera's view at a given time.

    Args:
        wall: (H, W, 3) uint8 RGB.
        size_hw: Height and width of the view, in pixels.
        time_s: Seconds since the start, at the left end.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    height, width = size_hw
    wall_height, wall_width = wall.shape[:2]
    farthest = min(wall_height, wall_width * height / width)
    seen_height = farthest * (1 - (1 - NEAREST) * _swing(time_s / ZOOM_S))
    scale = height / seen_height
    seen_width = width / scale
    left = (wall_width - seen_width) * _swing(time_s / WALK_S)
    top = (wall_height - seen_height) / 2
    shift = np.array([[scale, 0, -scale * left], [0, scale, -scale * top]])
    view: Array = cv2.warpAffine(wall, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return view


def _swing(turns: float) -> float:
    """From 0 to 1 and back in one period, slowest at the ends."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * turns)

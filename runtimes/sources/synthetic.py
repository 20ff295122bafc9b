"""A generated moving scene: a live source without a camera."""

from __future__ import annotations

import time
from collections.abc import Generator

import cv2
import numpy as np

from runtimes.sources.base import Array, Frame, Source

_SHAPES = 6


class SyntheticSource(Source):
    """Moving discs and boxes on a plain background, at a constant frame rate."""

    is_live = True

    def __init__(self, name: str, *, size_hw: tuple[int, int] = (480, 640), fps: float = 30.0, seed: int = 0) -> None:
        """Make one.

        Args:
            name: Its name.
            size_hw: Height and width, in pixels.
            fps: Frames per second.
            seed: Random seed of the shapes, their colours and motions.
        """
        super().__init__(name)
        self.fps = fps
        self._size_hw = size_hw
        self._seed = seed

    def __iter__(self) -> Generator[Frame, None, None]:
        assert self.fps
        scene = MovingShapes(self._size_hw, self._seed)
        start, index = time.monotonic(), 0
        while True:
            time.sleep(max(0.0, start + index / self.fps - time.monotonic()))
            yield Frame(scene.draw(index / self.fps), index, index / self.fps, self.name)
            index += 1


class MovingShapes:
    """Shapes, their colours and motions."""

    def __init__(self, size_hw: tuple[int, int], seed: int) -> None:
        height, width = size_hw
        rng = np.random.default_rng(seed)
        ramp = np.linspace(40, 110, width, dtype=np.uint8)
        self._background = np.repeat(np.repeat(ramp[None, :, None], height, axis=0), 3, axis=2)
        self._colors = rng.integers(90, 256, (_SHAPES, 3)).tolist()
        self._rates = rng.uniform(0.05, 0.3, (_SHAPES, 2))
        self._phases = rng.uniform(0, 2 * np.pi, (_SHAPES, 2))
        self._radii = (rng.uniform(0.06, 0.15, _SHAPES) * min(size_hw)).astype(int) + 1

    def draw(self, time_s: float) -> Array:
        """(H, W, 3) uint8 RGB at a given time."""
        image = self._background.copy()
        height, width = image.shape[:2]
        swing = 0.5 + 0.45 * np.sin(2 * np.pi * self._rates * time_s + self._phases)
        centres = (swing * (width, height)).astype(int).tolist()
        for number, ((x, y), radius, color) in enumerate(zip(centres, self._radii.tolist(), self._colors, strict=True)):
            if number % 2:
                cv2.circle(image, (x, y), radius, color, cv2.FILLED)
            else:
                cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), color, cv2.FILLED)
        return image

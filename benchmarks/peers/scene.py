"""The frame of all contenders, and the objects that replace their detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.sources.synthetic import MovingShapes

SIZE_HW = (1080, 1920)
CLASSES = tuple(f"class {index}" for index in range(80))
"""The number of COCO's classes."""


@dataclass(frozen=True)
class Objects:
    """The objects of the frame, by construction."""

    boxes_xyxy: NDArray[np.float32]
    """(K, 4), in pixels of the frame."""
    scores: NDArray[np.float32]
    """(K,), falling."""
    labels: NDArray[np.int64]
    """(K,), below `len(CLASSES)`."""

    def __len__(self) -> int:
        return len(self.scores)


def draw_frame(seed: int = 0) -> NDArray[np.uint8]:
    """(1080, 1920, 3) uint8 BGR, as OpenCV decodes a frame."""
    return np.ascontiguousarray(MovingShapes(SIZE_HW, seed).draw(float(seed))[..., ::-1])


def place_objects(count: int) -> Objects:
    """Round objects on a grid, with sides of 8 to 30 % of the height of the frame; those in neighbouring cells of 20
    may overlap."""
    rng = np.random.default_rng(0)
    height, width = SIZE_HW
    cells = rng.permutation(20)[:count]
    centres = np.stack([(cells % 5 + 0.5) * width / 5, (cells // 5 + 0.5) * height / 4], 1)
    halves = rng.uniform(0.04, 0.15, (count, 2)) * height
    boxes = np.concatenate([centres - halves, centres + halves], 1)
    boxes = np.clip(boxes, 0, [width - 1, height - 1, width - 1, height - 1]).astype(np.float32)
    scores = np.linspace(0.95, 0.5, count, dtype=np.float32)
    return Objects(boxes, scores, rng.integers(0, len(CLASSES), count))


def draw_disc(side: int) -> NDArray[np.float32]:
    """(side, side) probabilities of a disc that fills the square."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    return np.clip(1.5 - np.hypot(axis, axis[:, None]), 0, 1)

"""Detection of frames without motion since the last inferred one, so that a camera in an empty corridor costs little.

Means of blocks of the model's small input image are compared with those of the last inferred frame, not of the previous
one, so that slow motion is detected as well.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.preprocess import fit_size
from runtimes.sources import Frame
from runtimes.types import Detections

Array = NDArray[Any]

BLOCK = 8
"""Side of a block, in pixels of the model's input: its mean has an eighth of the camera's noise."""
MOVED = 6.0
"""Minimum difference of the mean of a block, of 255, in any colour: about the contrast of a dark sleeve against a grey
wall, and twice the effect of usual compression and noise."""
LONGEST_S = 10.0
"""Seconds after which a frame is inferred even without motion, so that a missed object is detected later."""


class _Known(NamedTuple):
    """An inferred frame."""

    number: int
    blocks: Array
    found: Detections
    time_s: float
    """Its time, by `time.monotonic`."""


class Stillness:
    """The last inferred frame of one source; used under the lock of the stream, except `measure`."""

    def __init__(self) -> None:
        self._known: _Known | None = None

    @staticmethod
    def measure(frame: Frame, input_hw: tuple[int, int]) -> Array:
        """Block means of the input of a model with this size: (h, w, 3) float32."""
        small = frame.small
        if small is None:
            small = frame.pixels.resized(fit_size(frame.size_hw, input_hw))
        size_wh = max(1, small.shape[1] // BLOCK), max(1, small.shape[0] // BLOCK)
        return cv2.resize(small.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)

    def recall(self, blocks: Array) -> Detections | None:
        """The known detections, if a frame with these means shows no motion; else None."""
        known = self._known
        if known is None or known.blocks.shape != blocks.shape or time.monotonic() - known.time_s > LONGEST_S:
            return None
        if np.abs(known.blocks - blocks).max() > MOVED:
            return None
        return replace(known.found, speed_ms={})

    def remember(self, number: int, blocks: Array, found: Detections) -> None:
        """Keep the detections of a frame, by its sequence number."""
        if self._known is None or number > self._known.number:
            self._known = _Known(number, blocks, found, time.monotonic())

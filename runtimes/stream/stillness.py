"""Whether a frame shows anything that the last inferred one did not: a camera in an empty corridor is to cost little.

What is compared are means of blocks of the small picture that the model reads, with those of the frame whose answer is
kept, not with those of the frame before: what creeps is seen as soon as it has come far enough.
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
"""Side of a block, in pixels of what the model reads: its mean has an eighth of the camera's noise."""
MOVED = 6.0
"""How far the mean of a block must be off, of 255, in any colour: about the contrast of an arm's length of a dark coat
before a grey wall, and twice what compression and noise of usual cameras do to blocks."""
LONGEST_S = 10.0
"""Seconds after which a frame is inferred although nothing moved: an object that was missed is found some day."""


class _Known(NamedTuple):
    """A frame that was inferred."""

    number: int
    blocks: Array
    found: Detections
    time_s: float
    """When, by `time.monotonic`."""


class Stillness:
    """The last inferred frame of one source; used under the lock of the stream, but for `measure`."""

    def __init__(self) -> None:
        self._known: _Known | None = None

    @staticmethod
    def measure(frame: Frame, input_hw: tuple[int, int]) -> Array:
        """Means of blocks of what a model with such an input reads: (h, w, 3) float32."""
        small = frame.small
        if small is None:
            small = frame.pixels.resized(fit_size(frame.size_hw, input_hw))
        size_wh = max(1, small.shape[1] // BLOCK), max(1, small.shape[0] // BLOCK)
        return cv2.resize(small.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)

    def recall(self, blocks: Array) -> Detections | None:
        """The answer to a frame with these means, if it shows what the known one does; else None."""
        known = self._known
        if known is None or known.blocks.shape != blocks.shape or time.monotonic() - known.time_s > LONGEST_S:
            return None
        if np.abs(known.blocks - blocks).max() > MOVED:
            return None
        return replace(known.found, speed_ms={})

    def remember(self, number: int, blocks: Array, found: Detections) -> None:
        """Keep the answer to a frame, by its number in the order in which frames were taken."""
        if self._known is None or number > self._known.number:
            self._known = _Known(number, blocks, found, time.monotonic())

"""Augmentation of an image together with its masks, in numpy and OpenCV.

All randomness comes from the given generator, so a sample depends only on its seed. A mask is a `Part` with the size of
its object, never of the whole image or canvas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.data.outlines import Part, RunLengths, cut_mask, paste_part

Size = tuple[int, int]

SAMPLES = 4
"""Minimum number of samples per direction for a pixel of a mask at a smaller scale."""
MOST_FINE = 32
"""Maximum number of mask pixels per pixel of the result that are averaged, because an image may have any size."""


@dataclass(frozen=True)
class Span:
    """The part of one axis of a resized image that is on the canvas, in pixels."""

    source: int
    """Its start in the resized image."""
    target: int
    """Its start on the canvas."""
    length: int

    @classmethod
    def choose(cls, length: int, room: int, rng: np.random.Generator) -> Span:
        """A random crop of an axis longer than the canvas, or a random position of a shorter one."""
        if length >= room:
            return cls(int(rng.integers(0, length - room + 1)), 0, room)
        return cls(0, int(rng.integers(0, room - length + 1)), length)


@dataclass(frozen=True)
class Placing:
    """How an image is scaled, cropped, placed and mirrored on a canvas."""

    source_hw: Size
    """Size of the original image, in pixels."""
    resized_hw: Size
    """Size of the whole image at the new scale."""
    canvas_hw: Size
    rows: Span
    columns: Span
    is_mirrored: bool

    @classmethod
    def whole(cls, source_hw: Size, canvas_hw: Size) -> Placing:
        """The whole image, stretched to the canvas."""
        height, width = canvas_hw
        rows, columns = Span(0, 0, height), Span(0, 0, width)
        return cls(source_hw, canvas_hw, canvas_hw, rows, columns, is_mirrored=False)

    @classmethod
    def choose(cls, source_hw: Size, canvas_hw: Size, config: TrainConfig, rng: np.random.Generator) -> Placing:
        """A random scale, position and flip ("large scale jitter", arXiv 2012.07177, section 3).

        Args:
            source_hw: Size of the image, in pixels.
            canvas_hw: Size of the canvas, in pixels.
            config: Ranges and probabilities.
            rng: Source of randomness.
        """
        height, width = source_hw
        canvas_height, canvas_width = canvas_hw
        scale = _choose_scale(source_hw, canvas_hw, config, rng)
        resized_h = max(1, round(height * scale))
        resized_w = max(1, round(width * scale))
        rows = Span.choose(resized_h, canvas_height, rng)
        columns = Span.choose(resized_w, canvas_width, rng)
        is_mirrored = bool(rng.random() < config.flip)
        return cls(source_hw, (resized_h, resized_w), canvas_hw, rows, columns, is_mirrored)

    @property
    def scale_yx(self) -> tuple[float, float]:
        """New pixels per old one."""
        height, width = self.source_hw
        resized_h, resized_w = self.resized_hw
        return resized_h / height, resized_w / width

    @property
    def mask_step(self) -> int:
        """At this scale, one of every so many pixels of a mask is enough, in each direction."""
        return max(1, int(1 / (SAMPLES * max(self.scale_yx))))

    def place_image(self, image: np.ndarray, pad_rgb: tuple[int, int, int]) -> np.ndarray:
        """The canvas (H, W, 3) with an image (h, w, 3) uint8 RGB on it; the rest is `pad_rgb`."""
        interpolation = cv2.INTER_AREA if max(self.scale_yx) < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image, self.resized_hw[::-1], interpolation=interpolation)
        rows, columns = self.rows, self.columns
        seen = resized[rows.source : rows.source + rows.length, columns.source : columns.source + columns.length]
        below = self.canvas_hw[0] - rows.target - rows.length
        right = self.canvas_hw[1] - columns.target - columns.length
        border = (rows.target, below, columns.target, right)
        canvas = cv2.copyMakeBorder(seen, *border, cv2.BORDER_CONSTANT, value=pad_rgb)
        return canvas[:, ::-1] if self.is_mirrored else canvas

    def place_mask(self, part: Part) -> Part | None:
        """The visible part of a mask, in pixels of the canvas; None if there is none.

        Args:
            part: Cut out with `mask_step`.
        """
        height, width = part.mask.shape
        scale_y, scale_x = (self.mask_step * scale for scale in self.scale_yx)
        top, bottom = _seen(part.y, height, scale_y, self.rows)
        left, right = _seen(part.x, width, scale_x, self.columns)
        if bottom <= top or right <= left:
            return None
        start_y, start_x = part.y * scale_y - top, part.x * scale_x - left
        mask = _resample(part.mask, (scale_y, scale_x), (start_y, start_x), (bottom - top, right - left))
        x = left - self.columns.source + self.columns.target
        y = top - self.rows.source + self.rows.target
        if self.is_mirrored:
            return Part(self.canvas_hw[1] - x - mask.shape[1], y, mask[:, ::-1])
        return Part(x, y, mask)


def _choose_scale(source_hw: Size, canvas_hw: Size, config: TrainConfig, rng: np.random.Generator) -> float:
    """New pixels per old one: from a random shorter side, or from scale jitter relative to the canvas."""
    height, width = source_hw
    if config.short_sides:
        scale = float(rng.choice(config.short_sides)) / min(height, width)
        limit = config.long_side / max(height, width)
        return min(scale, limit) if config.long_side else scale
    canvas_height, canvas_width = canvas_hw
    fit = min(canvas_height / height, canvas_width / width)
    lowest, highest = np.log(config.scale_jitter)
    return float(fit * np.exp(rng.uniform(lowest, highest)))  # uniform in its logarithm


def _seen(start: int, length: int, scale: float, span: Span) -> tuple[int, int]:
    """The pixels of the resized image that an object covers and a span shows: the first, and one past the last."""
    first = max(int(start * scale), span.source)
    last = min(math.ceil((start + length) * scale), span.source + span.length)
    return first, last


def _resample(
    mask: np.ndarray, scale_yx: tuple[float, float], start_yx: tuple[float, float], size_hw: Size
) -> np.ndarray:
    """A mask (h, w) of 0 and 1 at another scale, thresholded at one half.

    Args:
        mask: Mask of the object.
        scale_yx: New pixels per old one.
        start_yx: Position of its upper left corner, in new pixels.
        size_hw: Size of the result; the part outside is cut off.
    """
    fine = 1
    while fine < MOST_FINE and fine * min(scale_yx) < 0.5:  # linear interpolation alone would skip pixels
        fine *= 2
    scale_y, scale_x = fine * scale_yx[0], fine * scale_yx[1]
    # The centre of pixel 0 is at one half, before and after scaling.
    shift_y = fine * start_yx[0] + scale_y / 2 - 0.5
    shift_x = fine * start_yx[1] + scale_x / 2 - 0.5
    matrix = np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]])
    height, width = size_hw
    resampled = cv2.warpAffine(mask * 255, matrix, (fine * width, fine * height))
    if fine > 1:
        resampled = cv2.resize(resampled, (width, height), interpolation=cv2.INTER_AREA)
    return (resampled > 127).astype(np.uint8)


def fit_mask(outline: RunLengths, size_hw: Size) -> np.ndarray:
    """The mask (H, W) uint8 of 0 and 1 of a compressed RLE, stretched from its image to a canvas."""
    source_hw = (int(outline["size"][0]), int(outline["size"][1]))
    canvas = np.zeros(size_hw, np.uint8)
    placing = Placing.whole(source_hw, size_hw)
    part = placing.place_mask(cut_mask(outline, placing.mask_step))
    if part is not None:
        paste_part(canvas, part)
    return canvas


def paste_objects(
    image: np.ndarray,
    parts: Sequence[Part],
    source: np.ndarray,
    source_parts: Sequence[Part],
    rng: np.random.Generator,
    has_mask: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Part], np.ndarray]:
    """Paste some objects of another image onto an image ("simple copy-paste", arXiv 2012.07177, section 3).

    Args:
        image: (H, W, 3) uint8 RGB.
        parts: Masks of its N objects.
        source: (H, W, 3) uint8 RGB, the view of another image.
        source_parts: Masks of its M objects.
        rng: Source of randomness; selects at least one object.
        has_mask: (M,) bool, false for objects with only a box, which are never pasted; all true if None.

    Returns:
        The image, the N masks of the visible parts of its own objects and K of the pasted ones, and the indices (K,) of
        those in `source_parts`.
    """
    candidates = np.arange(len(source_parts)) if has_mask is None else np.flatnonzero(has_mask)
    chosen = _choose_some(candidates, rng)
    laid = [source_parts[index] for index in chosen]
    covered = np.zeros(image.shape[:2], np.uint8)
    for part in laid:
        covered[_window(part)] |= part.mask
    pasted = np.where(covered[..., None] > 0, source, image)
    seen = []
    for part in parts:
        uncovered = 1 - covered[_window(part)]
        seen.append(Part(part.x, part.y, part.mask & uncovered))
    return pasted, seen + laid, chosen


def _choose_some(candidates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At least one of them, in random order; none if there are none."""
    count = len(candidates)
    if not count:
        return np.zeros(0, np.int64)
    order = rng.permutation(count)
    return candidates[order[: rng.integers(1, count + 1)]]


def _window(part: Part) -> tuple[slice, slice]:
    """Rows and columns of the bounding box of a mask."""
    height, width = part.mask.shape
    return slice(part.y, part.y + height), slice(part.x, part.x + width)


def jitter_color(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Random contrast, brightness and saturation of a uint8 RGB image, each by at most `strength`.

    All three are linear in the colours, so together they are one matrix.
    """
    contrast, brightness, saturation = rng.uniform(-strength, strength, 3)
    mixed = np.eye(3) * (1 + saturation) - saturation * _LUMA[None]
    level = float(_LUMA @ cv2.mean(image)[:3])
    shift = level * (1 + brightness) - level * (1 + contrast)
    matrix = np.hstack([mixed * (1 + contrast), np.full((3, 1), shift)])
    return cv2.transform(image, matrix)


_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in gray, ITU-R BT.601, as OpenCV has them."""

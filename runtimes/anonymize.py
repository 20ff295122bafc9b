"""Objects of chosen classes made unrecognisable in a picture, for good.

The area of an object is its mask, widened; nothing of it is kept but the colours of a few large cells, or nothing at
all. A detector misses an object now and then: an area that is no longer found stays covered for a while, where it was
and where it should be by its motion.

This hides what the model finds. What it never finds is not hidden: measure its recall at the score that is used here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.tracker import Track, choose_pairs, measure_overlap
from runtimes.types import Detections

Array = NDArray[Any]
Method = Literal["mosaic", "fill"]

CELLS = 6
"""Cells of the mosaic along the longer side of an object at most: a face that fills the picture is six cells high."""
MIN_CELL_PX = 8
"""Side of a cell at least, in pixels."""
COLOR_BITS, HALF_SHADE = 0xE0, 0x10
"""Bits of a cell's colour that are kept, and the middle of such a shade: eight a channel, so that the small differences
between many frames, from which detail can be computed, are lost."""
COVER_COLOR = (114, 114, 114)
"""Colour of what is filled."""
MASK_FROM = 0.25
"""Probability from which a cell of the mask is covered; a pixel counts as the object's from 0.5 on."""
MARGIN = 0.1
"""How far around the mask is covered too, in shares of the box's sides."""
MIN_MARGIN_PX = 4.0
"""The same at least, in pixels."""
GROWTH_PER_S = 0.3
"""How much the area of an object that is not seen grows on each side, in shares of its sides a second."""
MISSED = 3
"""Frames for which an object stays covered, however slow they come."""
_WIDENING, _LEAST_OVERLAP = 0.3, 0.1
"""When two boxes are of one object: what is added on each side before they are compared, and the least overlap."""


@dataclass(frozen=True, kw_only=True)
class AnonymizerConfig:
    """What is covered, and how."""

    labels: frozenset[int]
    """Classes, by 0-based label."""
    method: Method = "mosaic"
    """"mosaic" leaves the mean colours of a few cells, "fill" nothing."""
    conf: float = 0.1
    """Lowest score that is covered, in [0, 1]: lower than what is shown, since a false alarm does no harm here."""
    hold_s: float = 1.0
    """Seconds for which an object that is no longer found stays covered; three frames at least, none if 0."""


class WideMask(NamedTuple):
    """A mask with a margin, on its own cells."""

    cells: Array
    """(S, S) uint8, 255 where something is covered."""
    margin: float
    """How far it goes beyond the box on each side, in shares of the box's sides."""


class Area(NamedTuple):
    """What is covered in one frame."""

    box_xyxy: Array
    """(4,) float64, the box that the mask fills without its margin, in pixels."""
    mask: WideMask
    method: Method


@dataclass
class Covered:
    """An object that is covered, over time."""

    track: Track
    mask: WideMask
    box_xyxy: Array
    """(4,) float64, where it was seen last, in pixels."""
    missed: int = field(default=0)
    """Frames since then."""


class Anonymizer:
    """Covers the objects of one source; not to be shared by several."""

    def __init__(self, config: AnonymizerConfig) -> None:
        self.config = config
        self._covered: list[Covered] = []
        self._time_s = -math.inf

    def follow(self, found: Detections, time_s: float) -> list[Area]:
        """What is to be covered in the next frame.

        Args:
            found: All that the model found in it, unconfident detections too.
            time_s: When it was taken, in seconds; times that do not advance count as 25 frames a second.
        """
        self._time_s = time_s if time_s > self._time_s else self._time_s + 1 / 25
        is_wanted = np.isin(found.labels, list(self.config.labels)) & (found.scores >= self.config.conf)
        self._update(found[is_wanted])
        return list(self._areas())

    def _update(self, wanted: Detections) -> None:
        """Take the objects of this frame, keep those that it misses for a while, forget the others."""
        frames = wanted.masks.frames_xyxy.astype(np.float64)
        masks = [widen_mask(probs) for probs in wanted.mask_probs]
        matches = self._match(wanted, frames)
        for one in self._covered:
            one.missed += 1
        for row, label in enumerate(wanted.labels.tolist()):
            known = matches.get(row)
            if known is None:
                track = Track(frames[row].tolist(), label, self._time_s)
                self._covered.append(Covered(track, masks[row], frames[row]))
            else:
                known.track.update(frames[row].tolist(), self._time_s)
                known.mask, known.box_xyxy, known.missed = masks[row], frames[row], 0
        self._covered = [one for one in self._covered if self._is_kept(one)]

    def _is_kept(self, one: Covered) -> bool:
        if one.missed == 0:
            return True
        is_recent = self._time_s - one.track.seen_s <= self.config.hold_s
        return self.config.hold_s > 0 and (is_recent or one.missed <= MISSED)

    def _match(self, wanted: Detections, frames_xyxy: Array) -> dict[int, Covered]:
        """Row of a detection -> the object that it continues."""
        if not (len(wanted) and self._covered):
            return {}
        predicted = np.array([one.track.predict(self._time_s) for one in self._covered])
        overlap = measure_overlap(frames_xyxy, predicted, _WIDENING)
        labels = np.array([one.track.label for one in self._covered])
        is_possible = (wanted.labels[:, None] == labels) & (overlap >= _LEAST_OVERLAP)
        return {row: self._covered[column] for row, column in choose_pairs(overlap, is_possible)}

    def _areas(self) -> Iterator[Area]:
        """Everything that is covered in this frame."""
        method = self.config.method
        for one in self._covered:
            if one.missed == 0:
                yield Area(one.box_xyxy, one.mask, method)
                continue
            # Where it was and where it should be: its motion may be known badly, and it may have stopped.
            age_s = self._time_s - one.track.seen_s
            for box_xyxy in (one.box_xyxy, np.array(one.track.predict(self._time_s))):
                growth = GROWTH_PER_S * age_s * np.tile(box_xyxy[2:] - box_xyxy[:2], 2)
                yield Area(box_xyxy + growth * np.array([-1, -1, 1, 1]), one.mask, method)


def widen_mask(probs: Array) -> WideMask:
    """Widen a mask of (M, M) float32 probabilities in [0, 1]; all of it where the mask is empty."""
    count = probs.shape[-1]
    margin = math.ceil(MARGIN * count)
    cells = np.pad((probs >= MASK_FROM).astype(np.uint8), margin)
    if not cells.any():  # something was found there
        return WideMask(np.full_like(cells, 255), margin / count)
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return WideMask(255 * cv2.dilate(cells, reach), margin / count)


def cover_areas(image: Array, areas: Iterable[Area]) -> Array:
    """Make areas of an (H, W, 3) uint8 image, in any order of channels, unrecognisable in place; the same image."""
    for area in areas:
        _cover(image, *area)
    return image


def _cover(image: Array, box_xyxy: Array, mask: WideMask, method: Method) -> None:
    """Overwrite one area."""
    margins = np.maximum(MIN_MARGIN_PX, mask.margin * (box_xyxy[2:] - box_xyxy[:2]))
    left, top = np.floor(box_xyxy[:2] - margins).astype(int).tolist()
    right, bottom = np.ceil(box_xyxy[2:] + margins).astype(int).tolist()
    height, width = image.shape[:2]
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if x0 >= x1 or y0 >= y1:
        return
    # Linear, and all that is not zero: a pixel between a covered cell and another is covered.
    whole = cv2.resize(mask.cells, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    is_covered = whole[y0 - top : y1 - top, x0 - left : x1 - left]
    part = image[y0:y1, x0:x1]
    cover = np.full(part.shape, COVER_COLOR, np.uint8) if method == "fill" else make_mosaic(part)
    cv2.copyTo(cover, is_covered, part)


def make_mosaic(image: Array) -> Array:
    """An (H, W, 3) uint8 image as a few cells of one coarse colour each, of the same size."""
    height, width = image.shape[:2]
    side = max(MIN_CELL_PX, max(height, width) / CELLS)
    grid_wh = max(1, math.floor(width / side)), max(1, math.floor(height / side))
    means = cv2.resize(image, grid_wh, interpolation=cv2.INTER_AREA)
    coarse = means.astype(np.uint8) & np.uint8(COLOR_BITS) | np.uint8(HALF_SHADE)
    mosaic: Array = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return mosaic

"""Irreversible covering of objects of chosen classes in an image.

The area of an object is its mask with a margin. Only the colours of a few large cells are kept of it, or nothing at
all. A detector misses an object now and then, so an area stays covered for a while after its last detection: at its
last position, and at the position that its motion predicts. This hides what the model detects. What it never detects is
not hidden: measure its recall at the score threshold used here.
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
"""Maximum number of mosaic cells along the longer side of an object: a face that fills the image is six cells high."""
MIN_CELL_PX = 8
"""Minimum side of a cell, in pixels."""
COLOR_BITS, HALF_SHADE = 0xE0, 0x10
"""Bits of a cell's colour that are kept, and the middle of such a shade. Eight shades per channel lose the small
differences between many frames, from which detail could be reconstructed."""
COVER_COLOR = (114, 114, 114)
"""Colour of filled areas."""
MASK_FROM = 0.25
"""Mask probability from which a cell is covered; a pixel belongs to the object from 0.5 on."""
MARGIN = 0.1
"""Margin around the mask, in shares of the box's sides."""
MIN_MARGIN_PX = 4.0
"""Minimum margin, in pixels."""
GROWTH_PER_S = 0.3
"""Growth per second of the covered area of an object without detections, on each side, in shares of its sides."""
MISSED = 3
"""Minimum number of frames for which an object stays covered, at any frame rate."""
_WIDENING, _LEAST_OVERLAP = 0.3, 0.1
"""Whether two boxes show the same object: the margin added on each side before they are compared, and their minimum
overlap."""


@dataclass(frozen=True, kw_only=True)
class AnonymizerConfig:
    """What to cover, and how."""

    labels: frozenset[int]
    """Classes, by 0-based label."""
    method: Method = "mosaic"
    """"mosaic" keeps the mean colours of a few cells, "fill" keeps nothing."""
    conf: float = 0.1
    """Score threshold of covered objects, in [0, 1]: lower than for shown objects, because a false positive does no
    harm here."""
    hold_s: float = 1.0
    """Seconds that an object stays covered after its last detection; at least three frames, none if 0."""


class WideMask(NamedTuple):
    """A mask with a margin, on its own cells."""

    cells: Array
    """(S, S) uint8, 255 where the image is covered."""
    margin: float
    """Margin beyond the box on each side, in shares of the box's sides."""


class Area(NamedTuple):
    """The covered area of one object in one frame."""

    box_xyxy: Array
    """(4,) float64, the box that the mask fills without its margin, in pixels."""
    mask: WideMask
    method: Method


@dataclass
class Covered:
    """A covered object over time."""

    track: Track
    mask: WideMask
    box_xyxy: Array
    """(4,) float64, its box in the last detection, in pixels."""
    missed: int = field(default=0)
    """Frames since the last detection."""


class Anonymizer:
    """Covers the objects of one source; use one instance per source."""

    def __init__(self, config: AnonymizerConfig) -> None:
        self.config = config
        self._covered: list[Covered] = []
        self._time_s = -math.inf

    def follow(self, found: Detections, time_s: float) -> list[Area]:
        """The areas to cover in the next frame.

        Args:
            found: All detections of the model, with low scores as well.
            time_s: Time of the frame, in seconds; times that do not increase count as 25 frames per second.
        """
        self._time_s = time_s if time_s > self._time_s else self._time_s + 1 / 25
        is_wanted = np.isin(found.labels, list(self.config.labels)) & (found.scores >= self.config.conf)
        self._update(found[is_wanted])
        return list(self._areas())

    def _update(self, wanted: Detections) -> None:
        """Add the detections of this frame, keep objects without one for a while, and remove the others."""
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
        """Row of a detection -> the object that it belongs to."""
        if not (len(wanted) and self._covered):
            return {}
        predicted = np.array([one.track.predict(self._time_s) for one in self._covered])
        overlap = measure_overlap(frames_xyxy, predicted, _WIDENING)
        labels = np.array([one.track.label for one in self._covered])
        is_possible = (wanted.labels[:, None] == labels) & (overlap >= _LEAST_OVERLAP)
        return {row: self._covered[column] for row, column in choose_pairs(overlap, is_possible)}

    def _areas(self) -> Iterator[Area]:
        """All covered areas of this frame."""
        method = self.config.method
        for one in self._covered:
            if one.missed == 0:
                yield Area(one.box_xyxy, one.mask, method)
                continue
            # The last position and the predicted one: the velocity may be inaccurate, and the object may have stopped.
            age_s = self._time_s - one.track.seen_s
            for box_xyxy in (one.box_xyxy, np.array(one.track.predict(self._time_s))):
                growth = GROWTH_PER_S * age_s * np.tile(box_xyxy[2:] - box_xyxy[:2], 2)
                yield Area(box_xyxy + growth * np.array([-1, -1, 1, 1]), one.mask, method)


def widen_mask(probs: Array) -> WideMask:
    """Widen a mask of (M, M) float32 probabilities in [0, 1]; an empty mask covers its whole box."""
    count = probs.shape[-1]
    margin = math.ceil(MARGIN * count)
    cells = np.pad((probs >= MASK_FROM).astype(np.uint8), margin)
    if not cells.any():  # the detection is there, but its mask is empty
        return WideMask(np.full_like(cells, 255), margin / count)
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return WideMask(255 * cv2.dilate(cells, reach), margin / count)


def cover_areas(image: Array, areas: Iterable[Area]) -> Array:
    """Cover areas of an (H, W, 3) uint8 image irreversibly, in any channel order, in place; returns the same image."""
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
    # Interpolate linearly and cover every value above zero: a pixel between a covered cell and another is covered.
    whole = cv2.resize(mask.cells, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    is_covered = whole[y0 - top : y1 - top, x0 - left : x1 - left]
    part = image[y0:y1, x0:x1]
    cover = np.full(part.shape, COVER_COLOR, np.uint8) if method == "fill" else make_mosaic(part)
    cv2.copyTo(cover, is_covered, part)


def make_mosaic(image: Array) -> Array:
    """An (H, W, 3) uint8 image as a few cells of one coarse colour each, at the same size."""
    height, width = image.shape[:2]
    side = max(MIN_CELL_PX, max(height, width) / CELLS)
    grid_wh = max(1, math.floor(width / side)), max(1, math.floor(height / side))
    means = cv2.resize(image, grid_wh, interpolation=cv2.INTER_AREA)
    coarse = means.astype(np.uint8) & np.uint8(COLOR_BITS) | np.uint8(HALF_SHADE)
    mosaic: Array = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    return mosaic

"""Contours of M x M masks as polygons, computed without pixels of the image.

Marching squares on all masks at once: a corner of the polygon lies between two neighbouring cells, where the
probability crosses the threshold. This is the line that `postprocess.paste_mask` draws pixel by pixel, at a cost that
does not grow with the image. It is used for drawing, polygons, areas and centroids; COCO results and dense masks are
made from pixels.

Source: Lorensen and Cline, Marching Cubes, SIGGRAPH 1987, in two dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.postprocess import MASK_THRESHOLD

Array = NDArray[Any]

_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)
_SEGMENTS = {
    1: (_TOP, _LEFT), 2: (_RIGHT, _TOP), 8: (_BOTTOM, _RIGHT), 4: (_LEFT, _BOTTOM),
    14: (_LEFT, _TOP), 13: (_TOP, _RIGHT), 7: (_RIGHT, _BOTTOM), 11: (_BOTTOM, _LEFT),
    3: (_RIGHT, _LEFT), 12: (_LEFT, _RIGHT), 10: (_BOTTOM, _TOP), 5: (_TOP, _BOTTOM),
    9: (_TOP, _LEFT), 6: (_RIGHT, _TOP),
}  # fmt: skip
"""Inside corners of a square (1 upper left, 2 upper right, 4 lower left, 8 lower right) -> the sides where the contour
enters and leaves the square, with the inside on the right."""
_SECOND = {9: (_BOTTOM, _RIGHT), 6: (_LEFT, _BOTTOM)}
"""The second segment of squares with two diagonal corners inside."""


class Segments(NamedTuple):
    """Segments of contours: one per square, two where corners touch diagonally.

    A contour alternates between white and black squares, as on a chessboard; the first half of the segments is in white
    squares. Sides are numbered through all grids: twice the number of the cell where they begin, plus one if they go
    down.
    """

    enter: Array
    """(E,) intp, the side where the contour enters; each occurs only once."""
    leave: Array
    """(E,) intp, the side where it leaves."""


def trace_masks(probs: Array, frames_xyxy: Array, image_size_hw: tuple[int, int]) -> list[list[Array]]:
    """The contours of masks in their frames.

    Args:
        probs: (N, M, M) float32 probabilities in [0, 1].
        frames_xyxy: (N, 4) float32, the box that each mask fills, x0 y0 x1 y1 in pixels of the image.
        image_size_hw: Height and width of the image, in pixels, which contours do not leave.

    Returns:
        For each mask its closed rings, each (K, 2) float32 x y in pixels of the image, clockwise around what is inside
        and the other way around holes; no ring for an empty mask, or one whose frame has no area.
    """
    grid, segments = _cut(probs, frames_xyxy)
    order, ends = _walk(segments, 2 * grid.size)
    sides = segments.enter[order]
    points = _place(sides, grid, probs.shape[-1], frames_xyxy, image_size_hw)
    rings: list[list[Array]] = [[] for _ in probs]
    owners = sides[np.array(ends, np.intp) - 1] // (2 * grid[:1].size)
    for owner, start, end in zip(owners.tolist(), [0, *ends], ends, strict=False):
        rings[owner].append(points[start:end])
    return rings


def measure_masks(probs: Array, frames_xyxy: Array, image_size_hw: tuple[int, int]) -> tuple[Array, Array]:
    """Areas and centroids of what the contours of masks enclose, holes taken away.

    The integrals go over all segments, which need not be walked in their order for that.

    Args:
        probs: As of `trace_masks`.
        frames_xyxy: As of `trace_masks`.
        image_size_hw: As of `trace_masks`.

    Returns:
        (N,) float64 areas in square pixels, 0 where nothing is inside; (N, 2) float64 centroids, x y in pixels, NaN
        where the area is 0.

    Source: Green's theorem; https://en.wikipedia.org/wiki/Centroid#Of_a_polygon
    """
    count = len(probs)
    grid, segments = _cut(probs, frames_xyxy)
    owner = segments.enter // (2 * grid[:1].size)
    points = _place(segments.enter, grid, probs.shape[-1], frames_xyxy, image_size_hw).astype(np.float64)
    # Subtract the origin of each box: with large coordinates, the products below would lose precision.
    origins = frames_xyxy[:, :2].astype(np.float64)
    points -= origins.take(owner, axis=0)
    following = points.take(_follow(segments, 2 * grid.size), axis=0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    moments = (points + following) * cross[:, None]
    areas = np.bincount(owner, cross, count) / 2
    has_area = areas > 0
    centroids = np.full((count, 2), np.nan)
    for axis in (0, 1):
        integrals = np.bincount(owner, moments[:, axis], count) / 6
        np.divide(integrals, areas, out=centroids[:, axis], where=has_area)
    return np.where(has_area, areas, 0.0), centroids + origins


def find_largest(rings: Sequence[Array]) -> Array:
    """The ring with the largest area; (0, 2) float32 if there is none."""
    return max(rings, key=cv2.contourArea, default=np.zeros((0, 2), np.float32))


def _cut(probs: Array, frames_xyxy: Array) -> tuple[Array, Segments]:
    """The grids of masks, see `_frame`, and the segments of their contours."""
    grid = _frame(probs)
    inside = (grid >= MASK_THRESHOLD).view(np.uint8)
    sizes = frames_xyxy[:, 2:] - frames_xyxy[:, :2]
    if sizes.min(initial=1) <= 0:
        inside[(sizes <= 0).any(axis=1)] = 0
    return grid, _find_segments(inside)


def _frame(probs: Array) -> Array:
    """(N, S, S) float32: masks with a border of zeros, S a power of two for fast division."""
    count, cells = probs.shape[0], probs.shape[-1]
    side = 1 << (cells + 1).bit_length()
    grid = np.zeros((count, side, side), np.float32)
    grid[:, 1 : cells + 1, 1 : cells + 1] = probs
    return grid


def _find_segments(inside: Array) -> Segments:
    """The segments in grids of (N, S, S) uint8, 1 inside."""
    side = inside.shape[-1]
    flat = inside.ravel()
    # Which corners of each square of four cells are inside, as a 4-bit code, the key of `_SEGMENTS`.
    codes = flat[: -side - 1] + 2 * flat[1:-side] + 4 * flat[side:-1] + 8 * flat[side + 1 :]
    squares = np.flatnonzero((codes != 0) & (codes != 15))
    codes = codes[squares]
    first, second = _tabulate(side)
    steps = first.take(codes, axis=1)
    has_second = np.flatnonzero((codes == 6) | (codes == 9))
    if len(has_second):
        steps = np.concatenate([steps, second.take(codes[has_second], axis=1)], axis=1)
        squares = np.concatenate([squares, squares[has_second]])
    steps += 2 * squares
    is_black = (squares ^ squares // side) & 1
    halves = [steps.take(np.flatnonzero(is_black == color), axis=1) for color in (0, 1)]
    enter, leave = np.concatenate(halves, axis=1)
    return Segments(enter, leave)


@cache
def _tabulate(side: int) -> tuple[Array, Array]:
    """`_SEGMENTS` and `_SECOND` as (2, 16) offsets from twice the number of a square to the numbers of its sides."""
    steps = np.array([0, 3, 2 * side, 1])  # upper, right, lower, left
    tables = np.zeros((2, 2, 16), np.intp)
    for table, segments in zip(tables, (_SEGMENTS, _SECOND), strict=True):
        table[:, list(segments)] = steps[np.array(list(segments.values())).T]
    return tables[0], tables[1]


def _walk(segments: Segments, sides: int) -> tuple[Array, list[int]]:
    """The numbers of all segments in ring order, and the end of each ring; the grids have `sides` sides in total."""
    count = len(segments.enter)
    following = _follow(segments, sides)
    white, ends = _walk_rings(following[following[: count // 2]].tolist())
    order = np.empty((count // 2, 2), np.intp)
    order[:, 0] = white
    order[:, 1] = following[order[:, 0]]
    return order.ravel(), [2 * end for end in ends]


def _follow(segments: Segments, sides: int) -> Array:
    """(E,) the number of the segment after each one; the grids have `sides` sides in total."""
    count = len(segments.enter)
    number = np.empty(sides, np.min_scalar_type(count))
    number[segments.enter] = np.arange(count)
    following: Array = number[segments.leave]
    return following


def _walk_rings(following: list[int]) -> tuple[list[int], list[int]]:
    """The rings of a permutation, which is consumed: all its numbers in ring order, and the end of each ring."""
    order: list[int] = []
    ends: list[int] = []
    for start in range(len(following)):
        if following[start] < 0:
            continue
        at = start
        while (after := following[at]) >= 0:
            following[at] = -1
            order.append(at)
            at = after
        ends.append(len(order))
    return order, ends


def _cross(grid: Array, sides: Array) -> Array:
    """(E,) float32: where the contour crosses sides, as a share of the distance from their first cell to the second."""
    values = grid.ravel()
    first = sides // 2
    second = first + np.where(sides & 1, grid.shape[-1], 1)
    # NaN counts as outside.
    low = np.fmax(values.take(first), 0)
    high = np.fmax(values.take(second), 0)
    share: Array = (MASK_THRESHOLD - low) / (high - low)
    return share


def _place(sides: Array, grid: Array, cells: int, frames_xyxy: Array, image_size_hw: tuple[int, int]) -> Array:
    """(E, 2) float32, x y in pixels of the image: points where the contour crosses sides of the grids.

    Args:
        sides: (E,) intp, numbers of sides; see `Segments`.
        grid: (N, S, S) float32, masks with a border of zeros.
        cells: Rows of a mask, without its border.
        frames_xyxy: As of `trace_masks`.
        image_size_hw: As of `trace_masks`.
    """
    side = grid.shape[-1]
    share = _cross(grid, sides)
    first = sides // 2
    row = first // side % side
    owner = first // (side * side)
    down = share * (sides & 1).astype(np.float32)
    points = np.empty((len(sides), 2), np.float32)
    points[:, 0] = first % side
    points[:, 0] += share - down
    points[:, 1] = row
    points[:, 1] += down
    scale = (frames_xyxy[:, 2:] - frames_xyxy[:, :2]) / cells
    corner = frames_xyxy[:, :2] - scale / 2
    points *= scale.take(owner, axis=0)
    points += corner.take(owner, axis=0)
    for axis, limit in enumerate(image_size_hw[::-1]):
        np.minimum(np.maximum(points[:, axis], 0), limit, out=points[:, axis])
    return points

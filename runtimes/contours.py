"""Contours of M x M masks as polygons between the pixels, without making a single pixel of the image.

Marching squares on all masks at once: where the probability crosses the threshold between two neighbouring cells, a
corner of the polygon lies. This is the line that `postprocess.paste_mask` draws pixel by pixel, at a cost that does not
grow with the image. For drawing and for polygons; areas, COCO results and dense masks are made of pixels.

Source: Lorensen and Cline, Marching Cubes, SIGGRAPH 1987, in two dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

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
"""Corners of a square that are inside (1 upper left, 2 upper right, 4 lower left, 8 lower right) -> the sides where the
contour enters and leaves it, with the inside on the right."""
_SECOND = {9: (_BOTTOM, _RIGHT), 6: (_LEFT, _BOTTOM)}
"""The other segment of squares with two corners inside that do not touch."""


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
    count, side = len(probs), probs.shape[-1] + 2
    grid = np.zeros((count, side, side), np.float32)
    np.fmax(probs, 0, out=grid[:, 1:-1, 1:-1])  # what is no number is outside
    inside = (grid >= MASK_THRESHOLD).view(np.uint8)
    inside[(frames_xyxy[:, 2:] <= frames_xyxy[:, :2]).any(axis=1)] = 0
    sides = _find_sides(inside)
    owners = sides // (2 * side * side)
    points = _place(_cross(grid, sides, owners), owners, frames_xyxy, side - 2)
    np.clip(points, 0, np.array(image_size_hw[::-1], np.float32), out=points)
    order, ends = _walk(_follow(inside, sides).tolist())
    points = points[order]
    rings: list[list[Array]] = [[] for _ in range(count)]
    start = 0
    for end in ends:
        rings[owners[order[start]]].append(points[start:end])
        start = end
    return rings


def find_largest(rings: Sequence[Array]) -> Array:
    """The ring with the largest area; (0, 2) float32 if there is none."""
    return max(rings, key=cv2.contourArea, default=np.zeros((0, 2), np.float32))


def _find_sides(inside: Array) -> Array:
    """(E,) the sides of squares that a contour crosses.

    Sides are numbered by mask, direction (0 to the right, 1 down), row and column of their first corner.
    """
    crossed = np.zeros((len(inside), 2, *inside.shape[1:]), bool)
    np.not_equal(inside[:, :, 1:], inside[:, :, :-1], out=crossed[:, 0, :, :-1])
    np.not_equal(inside[:, 1:], inside[:, :-1], out=crossed[:, 1, :-1])
    return np.flatnonzero(crossed)


def _cross(grid: Array, sides: Array, owners: Array) -> Array:
    """Where the contour crosses these sides, of masks `owners`: (E, 2) float32 x y in cells of the grid."""
    side = grid.shape[-1]
    is_down, corner = np.divmod(sides - owners * (2 * side * side), side * side)
    first = owners * (side * side) + corner
    values = grid.ravel()
    low = values[first]
    share = (MASK_THRESHOLD - low) / (values[first + np.where(is_down, side, 1)] - low)
    row, column = np.divmod(corner, side)
    points = np.empty((len(sides), 2), np.float32)
    points[:, 0] = column + share * (1 - is_down)
    points[:, 1] = row + share * is_down
    return points


def _place(points: Array, owners: Array, frames_xyxy: Array, cells: int) -> Array:
    """From cells of the grid, whose border is one cell around the frame, to pixels of the image."""
    corner, size = frames_xyxy[:, :2], frames_xyxy[:, 2:] - frames_xyxy[:, :2]
    placed: Array = corner[owners] + (points - 0.5) * (size / cells)[owners]
    return placed


def _follow(inside: Array, sides: Array) -> Array:
    """(E,) the side that the contour crosses after each, as a number among the crossed ones."""
    count, side, _ = inside.shape
    pairs = inside[:, :, :-1] + 2 * inside[:, :, 1:]
    codes = np.zeros(inside.shape, np.uint8)
    codes[:, :-1, :-1] = pairs[:, :-1] + 4 * pairs[:, 1:]
    square = np.flatnonzero((codes != 0) & (codes != 15))
    codes = codes.ravel()[square]
    base = square + square // (side * side) * (side * side)
    number = np.empty(count * 2 * side * side, np.intp)
    number[sides] = np.arange(len(sides))
    following = np.empty(len(sides), np.intp)
    steps, second_steps = _tabulate(side)
    has_second = np.flatnonzero((codes == 6) | (codes == 9))
    for table, codes_, base_ in ((steps, codes, base), (second_steps, codes[has_second], base[has_second])):
        entry, leave = table[:, codes_]
        following[number[base_ + entry]] = number[base_ + leave]
    return following


@cache
def _tabulate(side: int) -> tuple[Array, Array]:
    """`_SEGMENTS` and `_SECOND` as (2, 16) steps from the number of a square's upper side to those of others."""
    steps = np.array([0, side * side + 1, side, side * side])  # upper, right, lower, left
    tables = np.zeros((2, 2, 16), np.intp)
    for table, segments in zip(tables, (_SEGMENTS, _SECOND), strict=True):
        table[:, list(segments)] = steps[np.array(list(segments.values())).T]
    return tables[0], tables[1]


def _walk(following: list[int]) -> tuple[list[int], list[int]]:
    """The rings of a permutation, which is used up: all its numbers, ring after ring, and where each ring ends."""
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

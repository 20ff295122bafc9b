"""Masks from M x M probabilities to pixels of the source image, once.

Work is done inside each box only; no dense (N, H, W) array is made unless it is asked for. numpy and OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MASK_THRESHOLD = 0.5
"""A pixel belongs to the object where its probability reaches this."""


class Region(NamedTuple):
    """A mask cut to the pixels that it may touch."""

    x: int
    """Column of the left edge, in pixels of the image."""
    y: int
    """Row of the top edge, in pixels of the image."""
    mask: Array
    """(h, w) bool; h or w is 0 when the box covers no pixel centre."""


class Windows(NamedTuple):
    """Of each of N frames, the pixels whose centres lie in it: (N,) intp each."""

    left: Array
    """First column, in pixels of the image."""
    top: Array
    """First row, in pixels of the image."""
    width: Array
    """Columns."""
    height: Array
    """Rows."""


class Edges(NamedTuple):
    """Where masks begin and end in each column of pixels: all that their pixels and their run lengths are made of.

    In the order of masks, columns and rows.
    """

    owner: Array
    """(E,) intp, the number of the mask."""
    column: Array
    """(E,) intp, in pixels of the image."""
    row: Array
    """(E,) intp, in pixels of the image: the first pixel that is unlike the one above it, or the row below the window.

    Two edges in one place cancel."""


def find_windows(frames_xyxy: Array, image_size_hw: tuple[int, int]) -> Windows:
    """The pixels that masks may touch.

    Args:
        frames_xyxy: (N, 4) float32, the boxes that the masks fill, x0 y0 x1 y1 in pixels of the image.
        image_size_hw: Height and width of the image, in pixels.
    """
    frames = frames_xyxy.astype(np.float64)
    first = np.maximum(0, np.ceil(frames[:, :2] - 0.5))
    last = np.floor(frames[:, 2:] - 0.5)
    stop = np.maximum(first, np.minimum(image_size_hw[::-1], last + 1))
    (left, top), (right, bottom) = first.astype(np.intp).T, stop.astype(np.intp).T
    return Windows(left, top, right - left, bottom - top)


def find_edges(probs: Array, frames_xyxy: Array, windows: Windows) -> Edges:
    """Resize masks into their frames, straight to the resolution of the image, and find where they begin and end.

    Sub-pixel: the value of a pixel is the bilinear sample of the mask at the pixel's centre, cell centres half a cell
    inside the frame and zeros around it. torchvision's `paste_masks_in_image` means the same but rounds to whole
    pixels, which moves each edge by up to one, and has no word for the half input pixel by which its training
    targets are displaced: see `ModelCard.mask_offset`.
    Down a column of pixels the value is linear between two cells, so that the place where it crosses the threshold is
    computed, and no pixel. Beyond the edge of the frame it stays below the threshold.

    Args:
        probs: (N, M, M) float32 probabilities in [0, 1]; what is no number is 0.
        frames_xyxy: (N, 4) float32, the boxes that the masks fill, x0 y0 x1 y1 in pixels of the image.
        windows: Of these frames.
    """
    cells = probs.shape[-1]
    owner, column = _list_columns(windows)
    frames = frames_xyxy.astype(np.float64)
    wide = _sample_columns(probs, frames[:, 0::2], owner, column)
    # The border counts as outside, so no edge is found between the end of a column and the beginning of the next.
    values = wide.ravel()
    inside = values >= MASK_THRESHOLD
    before = np.flatnonzero(inside[1:] != inside[:-1])
    low, high = values.take(before), values.take(before + 1)
    place, cell = np.divmod(before, cells + 2)
    crossing = cell + (MASK_THRESHOLD - low) / (high - low) - 0.5
    own = owner.take(place)
    y0, y1 = frames[:, 1], frames[:, 3]
    row = crossing * (y1 - y0).take(own) / cells + (y0 - 0.5 - windows.top).take(own)
    # A pixel exactly at the threshold is inside.
    row = np.where(high > low, np.ceil(row), np.floor(row) + 1)
    row = np.clip(row, 0, windows.height.take(own)).astype(np.intp)
    return Edges(own, column.take(place), row + windows.top.take(own))


def _list_columns(windows: Windows) -> tuple[Array, Array]:
    """(C,) intp each: the mask of every column of pixels of all windows, and the column."""
    count = len(windows.width)
    owner = np.repeat(np.arange(count), windows.width)
    ends = np.cumsum(windows.width)
    before = ends - windows.width
    return owner, np.arange(len(owner)) + (windows.left - before)[owner]


def _sample_columns(probs: Array, spans: Array, owner: Array, column: Array) -> Array:
    """Masks at some columns of pixels, at their own rows, with a border of zeros above and below.

    Args:
        probs: (N, M, M) float32 probabilities.
        spans: (N, 2) float64, where the frames begin and end, in pixels from the left.
        owner: (C,) intp, the mask of each column.
        column: (C,) intp, in pixels from the left.

    Returns:
        (C, M + 2) float32.
    """
    count, cells = probs.shape[0], probs.shape[-1]
    framed = np.zeros((count, cells + 2, cells + 2), probs.dtype)  # transposed: the second axis is x
    np.fmax(probs.transpose(0, 2, 1), 0, out=framed[:, 1:-1, 1:-1])
    start, end = spans.T
    # In cells; the border is cell 0.
    scale = cells / np.maximum(end - start, 1e-6)
    position = (column + (0.5 - start)[owner]) * scale[owner] + 0.5
    lower = np.minimum(position.astype(np.intp), cells)
    share = (position - lower).astype(np.float32)
    lines = framed.reshape(-1, cells + 2)
    line = owner * (cells + 2) + lower
    return _lerp(lines.take(line, axis=0), lines.take(line + 1, axis=0), share[:, None])


def _lerp(low: Array, high: Array, share: Array) -> Array:
    """low + (high - low) * share; reuses the memory of `high`. Not a matrix product: those start threads."""
    high -= low
    high *= share
    high += low
    return high


def paste_mask(probs: Array, frame_xyxy: Array, image_size_hw: tuple[int, int]) -> Region:
    """The pixels of one mask, (M, M), in its frame, (4,); see `find_edges`."""
    windows = find_windows(frame_xyxy[None], image_size_hw)
    left, top, width, height = (int(side[0]) for side in windows)
    edges = find_edges(probs[None], frame_xyxy[None], windows)
    flips = np.zeros((height + 1) * width, np.uint8)
    np.add.at(flips, (edges.row - top) * width + (edges.column - left), np.uint8(1))
    # Going down a column, a pixel is inside after an odd number of edges.
    is_odd = (flips & 1).reshape(height + 1, width)
    np.bitwise_xor.accumulate(is_odd, axis=0, out=is_odd)
    return Region(left, top, is_odd[:height].view(bool))


def fill_dense(regions: Sequence[Region], image_size_hw: tuple[int, int]) -> Array:
    """(N, H, W) bool: each region on a blank image."""
    dense = np.zeros((len(regions), *image_size_hw), dtype=bool)
    for plane, (x, y, mask) in zip(dense, regions, strict=True):
        plane[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return dense


def find_contours(region: Region) -> list[Array]:
    """Contours of a region, holes too, each (K, 2) float32 x y in pixels: through the centres of the outermost ones."""
    if not region.mask.size:
        return []
    shift = (region.x, region.y)
    rings, _ = cv2.findContours(region.mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=shift)
    return [ring[:, 0] + np.float32(0.5) for ring in rings]

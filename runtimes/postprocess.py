"""Masks from M x M probabilities to pixels of the source image, once, and to COCO run-length encoding.

Work is done inside each box only; no dense (N, H, W) array is made unless it is asked for. numpy and OpenCV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MASK_THRESHOLD = 0.5
"""A pixel belongs to the object where its probability reaches this."""
_GROUPS = 7
"""5-bit groups that hold any run length of an image below 2^34 pixels."""


class Region(NamedTuple):
    """A mask cut to the pixels that it may touch."""

    x: int
    """Column of the left edge, in pixels of the image."""
    y: int
    """Row of the top edge, in pixels of the image."""
    mask: Array
    """(h, w) bool; h or w is 0 when the box covers no pixel centre."""


class Edges(NamedTuple):
    """Where a mask begins and ends in each column of pixels: all that its pixels and its run lengths are made of."""

    x: int
    """First column of the frame, in pixels of the image."""
    y: int
    """First row of the frame, in pixels of the image."""
    shape: tuple[int, int]
    """Rows and columns with centres in the frame."""
    column: Array
    """(E,) intp, counted from `x`; in ascending order."""
    row: Array
    """(E,) intp in [0, rows], counted from `y`: the first pixel that is unlike the one above it.

    Two edges in one place cancel."""


def find_edges(probs: Array, frame_xyxy: Array, image_size_hw: tuple[int, int]) -> Edges:
    """Resize one mask into its frame, straight to the resolution of the image, and find where it begins and ends.

    Sub-pixel: the value of a pixel is the bilinear sample of the mask at the pixel's centre, cell centres half a cell
    inside the frame and zeros around it. torchvision's `paste_masks_in_image` means the same but rounds to whole
    pixels, which moves each edge by up to one, and has no word for the half input pixel by which its training
    targets are displaced: see `ModelCard.mask_offset`.
    Down a column of pixels the value is linear between two cells, so that the place where it crosses the threshold is
    computed, and no pixel. Beyond the edge of the frame it stays below the threshold.

    Args:
        probs: (M, M) float32 probabilities in [0, 1]; what is no number is 0.
        frame_xyxy: (4,) float32, the box that the mask fills, x0 y0 x1 y1 in pixels of the image.
        image_size_hw: Height and width of the image, in pixels.
    """
    height, width = image_size_hw
    x0, y0, x1, y1 = frame_xyxy.tolist()
    cells = len(probs)
    left, lower, share = _sample_axis(x0, x1, width, cells)
    top, bottom = _pixels(y0, y1, height)
    # (columns, M + 2): the mask at the columns of the image and at its own rows, with a border of zeros.
    framed = np.pad(np.fmax(probs.T, 0), 1)
    wide = _lerp(framed[lower], framed[lower + 1], share[:, None])
    inside = wide >= MASK_THRESHOLD
    column, cell = np.nonzero(inside[:, 1:] != inside[:, :-1])
    low, high = wide[column, cell], wide[column, cell + 1]
    crossing = cell + (MASK_THRESHOLD - low) / (high - low) - 0.5
    row = crossing * (y1 - y0) / cells + (y0 - 0.5 - top)
    # A pixel exactly at the threshold is inside.
    row = np.where(high > low, np.ceil(row), np.floor(row) + 1)
    row = np.clip(row, 0, bottom - top).astype(np.intp)
    return Edges(left, top, (bottom - top, len(lower)), column, row)


def _sample_axis(start: float, end: float, length: int, cells: int) -> tuple[int, Array, Array]:
    """Where to sample a mask with a border of one cell, along one axis, for each pixel with its centre in the frame.

    Returns:
        The first pixel; for each pixel the lower of its two cells, and the share of the upper one, float32.
    """
    first, stop = _pixels(start, end, length)
    centres = np.arange(first, stop) + (0.5 - start)
    position = centres * (cells / max(end - start, 1e-6)) + 0.5
    lower = np.minimum(position.astype(np.intp), cells)
    return first, lower, (position - lower).astype(np.float32)


def _pixels(start: float, end: float, length: int) -> tuple[int, int]:
    """The first pixel with its centre in the frame, along one axis, and the one after the last."""
    first = max(0, math.ceil(start - 0.5))
    return first, max(first, min(length, math.floor(end - 0.5) + 1))


def _lerp(low: Array, high: Array, share: Array) -> Array:
    """low + (high - low) * share; reuses the memory of `high`. Not a matrix product: those start threads."""
    high -= low
    high *= share
    high += low
    return high


def paste_mask(probs: Array, frame_xyxy: Array, image_size_hw: tuple[int, int]) -> Region:
    """The pixels of one mask in its frame; see `find_edges`."""
    x, y, (rows, columns), column, row = find_edges(probs, frame_xyxy, image_size_hw)
    flips = np.zeros((rows + 1) * columns, np.uint8)
    np.add.at(flips, row * columns + column, np.uint8(1))
    # Going down a column, a pixel is inside after an odd number of edges.
    is_odd = (flips & 1).reshape(rows + 1, columns)
    np.bitwise_xor.accumulate(is_odd, axis=0, out=is_odd)
    return Region(x, y, is_odd[:rows].view(bool))


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


def encode_mask(probs: Array, frame_xyxy: Array, image_size_hw: tuple[int, int]) -> dict[str, Any]:
    """Compressed COCO run-length encoding of one mask in its frame, without a pixel; see `find_edges`.

    Returns:
        `{"size": [H, W], "counts": str}`, the same text as pycocotools makes of the dense mask.
    """
    edges = find_edges(probs, frame_xyxy, image_size_hw)
    return _encode_edges(edges, image_size_hw)


def encode_rle(region: Region, image_size_hw: tuple[int, int]) -> dict[str, Any]:
    """Compressed COCO run-length encoding of a region of an image, without the image; as `encode_mask`."""
    framed = np.pad(region.mask.T, ((0, 0), (1, 1)))
    column, row = np.nonzero(framed[:, 1:] != framed[:, :-1])
    edges = Edges(region.x, region.y, region.mask.shape, column, row)
    return _encode_edges(edges, image_size_hw)


def _encode_edges(edges: Edges, image_size_hw: tuple[int, int]) -> dict[str, Any]:
    height, width = image_size_hw
    flat = (edges.x + edges.column) * height + (edges.y + edges.row)
    # Two edges in one place cancel; so do those of a run that ends at the bottom of one column and goes on at the top
    # of the next.
    places, times = np.unique(flat, return_counts=True)
    changes = places[times % 2 == 1]
    lengths = np.diff(changes, prepend=0, append=height * width)
    ends_with_nothing = len(lengths) > 1 and lengths[-1] == 0
    if ends_with_nothing:
        lengths = lengths[:-1]
    return {"size": [height, width], "counts": _compress_counts(lengths)}


def _compress_counts(lengths: Array) -> str:
    """COCO's text of run lengths: differences to the last but one, in 5-bit groups, low first, from character 48.

    Source: cocoapi, common/maskApi.c, rleToString.
    """
    values = lengths.copy()
    values[3:] -= lengths[1:-2]
    shifted = values[:, None] >> (5 * np.arange(_GROUPS))
    groups = shifted & 0x1F
    rest = shifted >> 5
    is_last = np.where(groups & 0x10, rest == -1, rest == 0)
    last = is_last.argmax(axis=1)
    position = np.arange(_GROUPS)
    characters = groups + np.where(position < last[:, None], 0x20, 0) + 48
    return str(characters[position <= last[:, None]].astype(np.uint8).tobytes(), "ascii")

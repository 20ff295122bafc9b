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


def paste_mask(probs: Array, frame_xyxy: Array, image_size_hw: tuple[int, int]) -> Region:
    """Resize one mask into its frame, straight to the resolution of the image.

    Sub-pixel: the value of a pixel is the bilinear sample of the mask at the pixel's centre, cell centres half a cell
    inside the frame and zeros around it. torchvision's `paste_masks_in_image` means the same but rounds to whole
    pixels, which moves each edge by up to one, and has no word for the half input pixel by which its training
    targets are displaced: see `ModelCard.mask_offset`.
    A sample beyond the edge of the frame stays below the threshold, so only pixels with centres inside are visited.

    Args:
        probs: (M, M) float32 probabilities in [0, 1].
        frame_xyxy: (4,) float32, the box that the mask fills, x0 y0 x1 y1 in pixels of the image.
        image_size_hw: Height and width of the image, in pixels.
    """
    height, width = image_size_hw
    x0, y0, x1, y1 = frame_xyxy.tolist()
    left, columns, share_x = _sample_axis(x0, x1, width, probs.shape[1])
    top, rows, share_y = _sample_axis(y0, y1, height, probs.shape[0])
    framed = np.pad(probs, 1)
    wide = _lerp(framed[:, columns], framed[:, columns + 1], share_x)
    resized = _lerp(wide[rows], wide[rows + 1], share_y[:, None])
    return Region(left, top, resized >= MASK_THRESHOLD)


def _sample_axis(start: float, end: float, length: int, cells: int) -> tuple[int, Array, Array]:
    """Where to sample a mask with a border of one cell, along one axis, for each pixel with its centre in the frame.

    Returns:
        The first pixel; for each pixel the lower of its two cells, and the share of the upper one, float32.
    """
    first = max(0, math.ceil(start - 0.5))
    stop = max(first, min(length, math.floor(end - 0.5) + 1))
    centres = np.arange(first, stop) + (0.5 - start)
    position = centres * (cells / max(end - start, 1e-6)) + 0.5
    lower = np.minimum(position.astype(np.intp), cells)
    return first, lower, (position - lower).astype(np.float32)


def _lerp(low: Array, high: Array, share: Array) -> Array:
    """low + (high - low) * share; reuses the memory of `high`. Not a matrix product: those start threads."""
    high -= low
    high *= share
    high += low
    return high


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


def encode_rle(region: Region, image_size_hw: tuple[int, int]) -> dict[str, Any]:
    """Compressed COCO run-length encoding of a region of an image, without the image.

    Returns:
        `{"size": [H, W], "counts": str}`, the same text as pycocotools makes of the dense mask.
    """
    height, width = image_size_hw
    lengths = _run_lengths(region, height, width)
    return {"size": [height, width], "counts": _compress_counts(lengths)}


def _run_lengths(region: Region, height: int, width: int) -> Array:
    """Lengths of the runs of zeros and ones in turn, column by column, zeros first; int64."""
    rows, columns = region.mask.shape
    # One zero before each column, so that every run starts and ends inside the text of its column.
    framed = np.zeros((columns, rows + 1), dtype=bool)
    framed[:, 1:] = region.mask.T
    flat = np.append(framed, False)
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    column, row = np.divmod(changes, rows + 1)
    edges = (region.x + column) * height + region.y + row
    # A run that ends at the bottom of one column and goes on at the top of the next is one run.
    joined = np.flatnonzero(edges[1:] == edges[:-1])
    edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    lengths = np.diff(edges, prepend=0, append=height * width)
    ends_with_nothing = len(lengths) > 1 and lengths[-1] == 0
    return lengths[:-1] if ends_with_nothing else lengths


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

"""COCO's compressed run-length encoding of all masks of an image in one pass, computed without the pixels.

The encoding goes down the columns of the image and counts pixels outside the mask, then inside, and so on.
Source: cocoapi, common/maskApi.c.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.postprocess import Region, find_edges, find_windows

Array = NDArray[Any]

_LIMITS = 16 << 5 * np.arange(8)
"""From these magnitudes on a number takes two characters, three, and so on."""


def encode_masks(probs: Array, frames_xyxy: Array, image_size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """Encode masks in their frames; see `find_edges`.

    Args:
        probs: (N, M, M) float32 probabilities in [0, 1].
        frames_xyxy: (N, 4) float32, the boxes that the masks fill, x0 y0 x1 y1 in pixels of the image.
        image_size_hw: Height and width of the image, in pixels.

    Returns:
        `{"size": [H, W], "counts": str}` for each, the same text as pycocotools makes of the dense mask.
    """
    edges = find_edges(probs, frames_xyxy, find_windows(frames_xyxy, image_size_hw))
    place = edges.column * image_size_hw[0] + edges.row
    return _encode_edges(edges.owner, place, len(probs), image_size_hw)


def encode_rle(region: Region, image_size_hw: tuple[int, int]) -> dict[str, Any]:
    """Encode a region of an image, without the image; as `encode_masks`."""
    framed = np.pad(region.mask.T, ((0, 0), (1, 1)))
    column, row = np.nonzero(framed[:, 1:] != framed[:, :-1])
    place = (region.x + column) * image_size_hw[0] + (region.y + row)
    (encoded,) = _encode_edges(np.zeros_like(place), place, 1, image_size_hw)
    return encoded


def _encode_edges(owner: Array, place: Array, count: int, image_size_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """Encode masks by where they change.

    Args:
        owner: (E,) intp, the mask of each edge; in ascending order.
        place: (E,) intp, its place in the image, down the columns; in ascending order of each mask.
        count: Number of masks, N.
        image_size_hw: Height and width of the image, in pixels.
    """
    height, width = image_size_hw
    # Positions are counted through all masks; each mask has one extra position at its end.
    span = height * width + 1
    image_ends = np.arange(1, count + 1) * span - 1
    changes = _cancel_pairs(owner * span + place)
    # A change at the end of an image starts no further run.
    changes = np.delete(changes, _find_common(changes, image_ends))
    last = np.searchsorted(changes, image_ends) + np.arange(count)
    first = np.append(0, last + 1)[:-1]
    bounds = np.empty(len(changes) + count, np.intp)
    is_change = np.ones(len(bounds), bool)
    is_change[last] = False
    bounds[last], bounds[is_change] = image_ends, changes
    lengths = np.diff(bounds, prepend=-1)
    lengths[first] -= 1  # without the extra position at the end of the mask before
    return [{"size": [height, width], "counts": text} for text in _write_counts(lengths, first, last)]


def _cancel_pairs(places: Array) -> Array:
    """The places, in ascending order, that occur an odd number of times.

    So a run that ends at the bottom of a column and goes on at the top of the next stays one run.
    """
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    times = np.diff(starts, append=len(places))
    odd: Array = places[starts[times % 2 == 1]]
    return odd


def _find_common(values: Array, wanted: Array) -> Array:
    """Positions in the sorted `values` of those that are in the sorted `wanted`."""
    places = np.searchsorted(values, wanted)
    inner = places[places < len(values)]
    found: Array = inner[values[inner] == wanted[: len(inner)]]
    return found


def _write_counts(lengths: Array, first: Array, last: Array) -> list[str]:
    """COCO's text of run lengths: the difference of each to the last but one, in groups of 5 bits, the lowest first.

    Each group is a character, from 48 on.

    Args:
        lengths: (R,) intp, the run lengths of all masks.
        first: (N,) intp, the first run of each mask.
        last: (N,) intp, its last run.

    Source: cocoapi, common/maskApi.c, rleToString.
    """
    number = np.arange(len(lengths)) - np.repeat(first, last - first + 1)
    later = np.flatnonzero(number > 2)
    values = lengths.copy()
    values[later] -= lengths[later - 2]
    magnitudes = values ^ (values >> 63)  # maps -1 to 0, -2 to 1, ...: in two's complement they need as many bits
    sizes = 1 + np.searchsorted(_LIMITS, magnitudes, side="right")
    ends = np.cumsum(sizes)
    characters = _write_groups(values, sizes, ends - sizes)
    text = str(characters.tobytes(), "ascii")
    limits = [0, *ends[last].tolist()]
    return [text[start:end] for start, end in zip(limits, limits[1:], strict=False)]


def _write_groups(values: Array, sizes: Array, starts: Array) -> Array:
    """Characters, uint8, of numbers that take `sizes` groups of bits each, beginning at `starts`."""
    characters = np.empty(int(sizes.sum()), np.uint8)
    for group in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero(sizes > group)
        bits = values.take(rows) >> 5 * group & 0x1F
        has_more = sizes.take(rows) > group + 1
        characters[starts.take(rows) + group] = bits + 0x20 * has_more + 48
    return characters

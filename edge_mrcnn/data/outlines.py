"""Outlines of objects: polygons and run lengths, read by one set of rules, and the pixels that they cover.

No mask of a whole image is made here: memory depends on the object, not on the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import MissingExtraError

try:
    from pycocotools import mask as rle
except ModuleNotFoundError as error:
    raise MissingExtraError("pycocotools is needed to read annotations: pip install 'edge-mrcnn[report]'") from error

RunLengths = dict[str, Any]
"""Compressed RLE as in pycocotools: `size`, height and width, and `counts`, bytes or text."""

MIN_VISIBLE_PX = 16
"""Minimum number of pixels at the input size, after augmentation, for an object to be trained on."""
FARTHEST = 10.0
"""Maximum distance of an outline outside of its image, in widths and heights of the image; memory depends on it."""
FEW_PARTS = 8
"""Number of polygons of an object that are merged one after another."""
LONGEST_RUN_DIGITS = 8
"""Digits of 5 bits in one run of compressed RLE; 2^40 pixels are more than any image has."""


class BrokenOutlineError(ValueError):
    """An outline with impossible numbers."""


class SizeError(ValueError):
    """Run lengths of an image of another size."""

    def __init__(self, size_hw: tuple[int, int], expected_hw: tuple[int, int]) -> None:
        """State both sizes."""
        super().__init__(f"its RLE is of size {list(size_hw)}, its image of {list(expected_hw)}")
        self.size_hw = size_hw


@dataclass(frozen=True, eq=False)
class Part:
    """The mask of an object, cropped from its image."""

    x: int
    """Column of its left edge, in pixels of the image."""
    y: int
    """Row of its upper edge."""
    mask: NDArray[np.uint8]
    """(h, w) of 0 and 1."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """The polygons of an object, in pixels."""

    corners: list[NDArray[np.float64]]
    """(2 K,) each: x0 y0 x1 y1 ..."""
    is_plain: bool
    """Whether they are in COCO's format."""
    is_scaled: bool
    """Whether they are shares of the image's sides."""


def list_polygons(segmentation: Any) -> list[list[Any]]:
    """The polygons of an annotation as flat lists x0 y0 x1 y1 ..., however they are nested.

    COCO has a list of such lists. Tools also write one flat list, lists of [x, y], and further levels around them.

    Raises:
        BrokenOutlineError: If an element is neither a list nor a number.
    """
    if not isinstance(segmentation, (list, tuple)):
        raise BrokenOutlineError(f"expected a list of polygons, got {type(segmentation).__name__}")
    if not segmentation:
        return []
    if is_number(segmentation[0]):
        return [list(segmentation)]
    points = [_point_of(child) for child in segmentation]
    if len(points) > 1 and all(point is not None for point in points):
        return [[value for point in points if point for value in point]]
    polygons: list[list[Any]] = []
    for child in segmentation:
        polygons += list_polygons(child)
    return polygons


def is_number(value: Any) -> bool:
    """Whether this is a number, or text that parses as one."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _point_of(node: Any) -> Sequence[Any] | None:
    """The x and y of [x, y], or of [[x, y]] as in OpenCV's contours; None for anything else."""
    if not isinstance(node, (list, tuple)):
        return None
    if len(node) == 1:
        return _point_of(node[0])
    is_point = len(node) == 2 and is_number(node[0]) and is_number(node[1])
    return node if is_point else None


def is_plain(segmentation: Any) -> bool:
    """Whether polygons are in COCO's format: a list of lists of numbers, not of points or texts."""
    if not isinstance(segmentation, list):
        return False
    for polygon in segmentation:
        if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
            return False
    lengths = {len(polygon) for polygon in segmentation}
    return lengths != {2} or len(segmentation) == 1


def check_polygons(polygons: Sequence[Sequence[Any]], size_hw: tuple[int, int]) -> list[NDArray[np.float64]]:
    """Polygons with at least three corners, each (2 K,) in pixels; those with fewer are left out.

    Raises:
        BrokenOutlineError: If a number is not finite or far outside of the image, or the number of coordinates is odd.
    """
    checked = []
    for polygon in polygons:
        if len(polygon) % 2:
            raise BrokenOutlineError(f"a polygon has an odd number of coordinates: {len(polygon)}")
        if len(polygon) < 6:
            continue
        try:
            values = np.array(polygon, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise BrokenOutlineError("a polygon contains a value that is not a number") from error
        _check_reach(values, size_hw)
        checked.append(values)
    return checked


def _check_reach(values: NDArray[np.float64], size_hw: tuple[int, int]) -> None:
    if not np.isfinite(values).all():
        raise BrokenOutlineError("a polygon has a coordinate that is infinite or not a number")
    for axis, side in ((0, size_hw[1]), (1, size_hw[0])):
        least, most = values[axis::2].min(), values[axis::2].max()
        if least < -FARTHEST * side or most > (1 + FARTHEST) * side:
            worst = least if abs(least) > abs(most) else most
            raise BrokenOutlineError(
                f"a polygon has the coordinate {worst:g} in an image of {size_hw[1]} x {size_hw[0]} pixels"
            )


def understand_polygons(segmentation: Any, size_hw: tuple[int, int], in_shares: bool) -> Polygons:
    """The polygons of an annotation, however they are nested.

    Args:
        segmentation: Segmentation of an annotation.
        size_hw: Size of its image.
        in_shares: Coordinates in [0, 1] are shares of width and height.

    Raises:
        BrokenOutlineError: If a number is impossible.
    """
    plain = is_plain(segmentation)
    corners = check_polygons(segmentation if plain else list_polygons(segmentation), size_hw)
    is_scaled = in_shares and all(polygon.min() >= 0 and polygon.max() <= 1 for polygon in corners)
    if is_scaled:
        sides = np.array(size_hw[::-1])
        corners = [(polygon.reshape(-1, 2) * sides).ravel() for polygon in corners]
    return Polygons(corners, plain, is_scaled)


def compress_polygons(polygons: Sequence[NDArray[np.float64]], size_hw: tuple[int, int]) -> RunLengths | None:
    """Polygons of `check_polygons` as one compressed RLE; None if there is none."""
    if not polygons:
        return None
    height, width = size_hw
    parts = rle.frPyObjects([polygon.tolist() for polygon in polygons], height, width)
    return _merge(parts)


def _merge(parts: Sequence[RunLengths]) -> RunLengths:
    """The union of outlines.

    `rle.merge` processes all runs so far for each part, so thousands of parts are merged in halves.
    """
    if len(parts) > FEW_PARTS:
        middle = len(parts) // 2
        parts = [_merge(parts[:middle]), _merge(parts[middle:])]
    merged: RunLengths = rle.merge(parts)
    return merged


def compress_runs(segmentation: RunLengths, size_hw: tuple[int, int]) -> RunLengths:
    """Compressed or uncompressed RLE as compressed RLE, after a check that it fills the image.

    Raises:
        SizeError: If it belongs to an image of another size.
        BrokenOutlineError: If the runs do not add up to its pixels.
        KeyError: If it has no size or no counts.
    """
    height, width = (int(side) for side in segmentation["size"])
    counts = segmentation["counts"]
    if (height, width) != size_hw:
        raise SizeError((height, width), size_hw)
    runs = np.array(counts, dtype=np.int64) if isinstance(counts, list) else read_counts(counts)
    if runs.min(initial=0) < 0 or runs.sum() != height * width:
        raise BrokenOutlineError(f"its run lengths do not add up to {height} x {width} pixels")
    if not isinstance(counts, list):
        return {"size": [height, width], "counts": counts}
    compressed: RunLengths = rle.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
    return compressed


def read_counts(code: str | bytes) -> NDArray[np.int64]:
    """The run lengths of compressed RLE: background first, down the columns.

    Raises:
        BrokenOutlineError: If it is not valid.

    Source: pycocotools/maskApi.c, `rleFrString`: digits of 5 bits, the lowest first, with 32 for "goes on" and the sign
    in the last one; from the fourth run on, the difference to the run two before it.
    """
    data = code.encode() if isinstance(code, str) else bytes(code)
    digits = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise BrokenOutlineError("its counts are not valid compressed run lengths")
    last = np.flatnonzero(~digits & 32)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > LONGEST_RUN_DIGITS:
        raise BrokenOutlineError("its counts have a run that is longer than any image")
    place = np.arange(digits.size) - np.repeat(first, lengths)
    values = np.add.reduceat((digits & 31) << (5 * place), first)
    is_negative = digits[last] & 16 > 0
    values -= np.where(is_negative, 1 << (5 * lengths), 0)
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs


def cut_mask(outline: RunLengths, step: int = 1) -> Part:
    """The mask of a compressed RLE within its box; without pixels if it is empty.

    Args:
        outline: Outline of an object.
        step: Use only every so many pixels in each direction, as in an image that is so much smaller.
    """
    height = int(outline["size"][0])
    ends = np.cumsum(read_counts(outline["counts"]))
    starts, stops = ends[: len(ends) // 2 * 2 : 2], ends[1::2]
    is_something = stops > starts
    starts, stops = starts[is_something], stops[is_something]
    if step > 1:
        starts, stops, height = _thin_out(starts, stops, height, step)
    if not starts.size:
        return Part(0, 0, np.zeros((0, 0), np.uint8))
    left, right = int(starts[0] // height), int((stops[-1] - 1) // height) + 1
    columns, rows = np.divmod(starts, height)
    last_columns, last_rows = np.divmod(stops - 1, height)
    top, bottom = int(rows.min()), int(last_rows.max()) + 1
    if (columns != last_columns).any():  # the run continues at the top of the next column
        top, bottom = 0, height
    part_height = bottom - top
    edges = np.zeros(part_height * (right - left) + 1, np.int8)
    begin = (columns - left) * part_height + rows - top
    edges[begin] += 1
    edges[begin + stops - starts] -= 1
    pixels = np.cumsum(edges[:-1], dtype=np.int8).view(np.uint8)
    return Part(left, top, pixels.reshape(right - left, part_height).T)


def _thin_out(
    starts: NDArray[np.int64], stops: NDArray[np.int64], height: int, step: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Runs down the columns of an image, of which only every `step`-th column and row are used, and its height.

    No pixel is computed for it, so that time and memory depend on the runs and the used pixels.
    """
    first_columns, last_columns = starts // height, (stops - 1) // height
    spans = last_columns - first_columns + 1
    run = np.repeat(np.arange(len(starts)), spans)
    nth = np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)
    columns = first_columns[run] + nth
    top = columns * height
    begin = np.maximum(starts[run], top) - top
    end = np.minimum(stops[run], top + height) - top
    middle = step // 2
    new_height = -((middle - height) // step)
    new_begin = np.maximum(0, -((middle - begin) // step))
    new_end = -((middle - end) // step)
    is_kept = (columns % step == middle) & (new_begin < new_end)
    new_top = columns[is_kept] // step * new_height
    return new_top + new_begin[is_kept], new_top + new_end[is_kept], new_height


def paste_part(canvas: NDArray[np.uint8], part: Part) -> None:
    """Copy a mask onto a larger one (H, W), in place."""
    height, width = part.mask.shape
    canvas[part.y : part.y + height, part.x : part.x + width] |= part.mask

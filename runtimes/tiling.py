"""Inference on tiles of a large image, so that small objects are large enough for the model's input.

The tiles overlap, and the whole image is processed as well, for objects larger than a tile. An object in an overlap is
detected several times, and one that a seam cuts is detected in parts; both are merged into one. Two views are compared
only where both overlap: masks that agree there belong to one object, however small their common part is. The overlap of
two whole parts, as in SAHI (arXiv 2202.06934), would be small for a long object that a seam cuts.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtimes.base import RawOutputs, Runtime
from runtimes.errors import UsageError
from runtimes.names import ClassName
from runtimes.pictures import Picture, open_picture
from runtimes.postprocess import Region
from runtimes.preprocess import Order
from runtimes.types import Detections

Array = NDArray[Any]

AGREEMENT = 0.4
"""IoU, in the overlap of two views, from which two masks belong to one object."""
DUPLICATE = 0.5
"""IoU of two masks of a class from which the one with the lower score is removed."""
FRAGMENT = 0.6
"""Share of a cut mask that must lie inside another mask to count as a part of it."""
COARSE = 0.8
"""Factor on scores of the whole image, because a tile gives a more accurate box of the same object."""
LARGE = 0.5
"""Longer side of an object, in shares of a tile's side, from which its view in the whole image is preferred."""
EDGE = 0.01
"""Distance between the box of a cut object and the edge of its tile, in shares of the tile's side."""


@dataclass(frozen=True, kw_only=True)
class TilingConfig:
    """How an image is divided into tiles."""

    tile: int
    """Side of a tile, in pixels of the image."""
    overlap: float = 0.2
    """Minimum overlap of neighbouring tiles, as a share of their side, in [0, 0.9]: an object of this size is whole in
    one of them."""

    def __post_init__(self) -> None:
        if self.tile < 32:
            raise UsageError(f"--tile {self.tile}: expected 32 pixels or more")
        if not 0 <= self.overlap <= 0.9:
            raise UsageError(f"--overlap {self.overlap:g}: expected a share between 0 and 0.9")


class PictureTile(NamedTuple):
    """A rectangle in an image, in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def shared(self, other: PictureTile) -> PictureTile:
        """The intersection of two tiles; without width or height if there is none."""
        return PictureTile(
            max(self.left, other.left), max(self.top, other.top),
            min(self.right, other.right), min(self.bottom, other.bottom),
        )  # fmt: skip

    @property
    def is_empty(self) -> bool:
        """Whether it has no pixel."""
        return self.left >= self.right or self.top >= self.bottom


class View(NamedTuple):
    """The detections in a part of an image."""

    tile: PictureTile
    found: Detections
    """In pixels of the whole image."""
    is_cut: Array
    """(N,) bool, whether the edge of the tile may cut the object."""


def cut_axis(length: int, tile: int, overlap: float) -> list[int]:
    """Positions of tiles along a side of an image: the fewest with the required overlap, evenly spaced."""
    if length <= tile:
        return [0]
    step = max(1, math.floor(tile * (1 - overlap)))
    count = math.ceil((length - tile) / step) + 1
    return [round(start) for start in np.linspace(0, length - tile, count)]


def cut_image(image_size_hw: tuple[int, int], config: TilingConfig) -> list[PictureTile]:
    """The tiles of an image, row by row; a single tile if the image is small."""
    height, width = image_size_hw
    side = config.tile
    tiles = []
    for top in cut_axis(height, side, config.overlap):
        for left in cut_axis(width, side, config.overlap):
            tiles.append(PictureTile(left, top, min(width, left + side), min(height, top + side)))
    return tiles


class TiledRuntime(Runtime):
    """Runs a model on tiles and on the whole image; closing it closes the model."""

    def __init__(self, model: Runtime, config: TilingConfig) -> None:
        super().__init__(model.card)
        self.config = config
        self._model = model

    def run(self, x: Array) -> RawOutputs:
        return self._model.run(x)

    def run_batch(self, x: Array) -> list[RawOutputs]:
        return self._model.run_batch(x)

    def close(self) -> None:
        self._model.close()

    def lanes(self, count: int) -> list[Runtime]:
        first, *others = self._model.lanes(count)
        assert first is self._model
        return [self, *(TiledRuntime(one, self.config) for one in others)]

    def describe(self) -> dict[str, str]:
        tiles = f"{self.config.tile} px, overlap {self.config.overlap:g}"
        return {**self._model.describe(), "tiles": tiles}

    def infer(
        self,
        image: Picture,
        *,
        order: Order = "rgb",
        conf: float = 0.0,
        classes: ClassName | Sequence[ClassName] | None = None,
    ) -> Detections:
        """As `Runtime.infer`, on each tile and on the whole image; `speed_ms` is the sum over all of them."""
        pixels, own_order = open_picture(image, order)
        options: dict[str, Any] = {"order": own_order, "conf": conf, "classes": classes}
        whole = self._model.infer(pixels, **options)
        path = str(image) if isinstance(image, (str, Path)) else None
        height, width = pixels.shape[:2]
        tiles = cut_image((height, width), self.config)
        if len(tiles) == 1:
            return replace(whole, path=path)
        views = [View(PictureTile(0, 0, width, height), whole, np.zeros(len(whole), bool))]
        for tile in tiles:
            part = np.ascontiguousarray(pixels[tile.top : tile.bottom, tile.left : tile.right])
            views.append(place(self._model.infer(part, **options), tile, (height, width)))
        start = time.perf_counter()
        merged = merge_views(views)
        merging_ms = 1e3 * (time.perf_counter() - start)
        return replace(merged, path=path, speed_ms=_add_times(views, merging_ms))

    def infer_batch(
        self,
        images: Sequence[Picture],
        *,
        order: Order = "rgb",
        conf: float = 0.0,
        classes: ClassName | Sequence[ClassName] | None = None,
    ) -> list[Detections]:
        """As `infer`, one image after the other."""
        return [self.infer(image, order=order, conf=conf, classes=classes) for image in images]


def _add_times(views: Sequence[View], merging_ms: float) -> dict[str, float]:
    """Milliseconds by stage of all views together."""
    total = {"postprocess": merging_ms}
    for view in views:
        for stage, value in view.found.speed_ms.items():
            total[stage] = total.get(stage, 0.0) + value
    return total


def tile_model(model: Runtime, tile: int | None, overlap: float = 0.2) -> Runtime:
    """The model itself, or a runtime that uses tiles with this side.

    Raises:
        UsageError: If the tile size or the overlap is not valid.
    """
    return model if tile is None else TiledRuntime(model, TilingConfig(tile=tile, overlap=overlap))


def place(found: Detections, tile: PictureTile, image_size_hw: tuple[int, int]) -> View:
    """The detections of a tile, in pixels of the whole image."""
    height, width = image_size_hw
    boxes = found.boxes_xyxy + np.array([tile.left, tile.top] * 2, np.float32)
    near = EDGE * max(tile.right - tile.left, tile.bottom - tile.top)
    is_cut = np.zeros(len(boxes), bool)
    if tile.left > 0:
        is_cut |= boxes[:, 0] < tile.left + near
    if tile.top > 0:
        is_cut |= boxes[:, 1] < tile.top + near
    if tile.right < width:
        is_cut |= boxes[:, 2] > tile.right - near
    if tile.bottom < height:
        is_cut |= boxes[:, 3] > tile.bottom - near
    return View(tile, replace(found, boxes_xyxy=boxes, image_size_hw=image_size_hw), is_cut)


@dataclass(frozen=True, eq=False)
class Pool:
    """The objects of all views in one pool."""

    found: Detections
    regions: Sequence[Region]
    """Their pixels."""
    views: Array
    """(N,) integer, the view of each object."""
    is_cut: Array
    """(N,) bool, whether the edge of its view may cut it."""
    is_large: Array
    """(N,) bool, whether it is so large that it is whole in a tile only by chance."""

    @classmethod
    def of(cls, views: Sequence[View]) -> Pool:
        """The objects of several views; the offset of all masks from their boxes is that of the last view."""
        offset = np.array(views[-1].found.mask_offset_xy * 2, np.float32)
        founds = [view.found for view in views]
        boxes = np.concatenate([found.boxes_xyxy for found in founds])
        # The whole image is shrunk more than a tile, so half an input pixel around its masks is more image pixels.
        probs = [resample_masks(found, found.boxes_xyxy + offset) for found in founds]
        joined = replace(
            views[-1].found, boxes_xyxy=boxes, mask_probs=np.concatenate(probs),
            scores=np.concatenate([found.scores for found in founds]),
            labels=np.concatenate([found.labels for found in founds]),
        )  # fmt: skip
        numbers = np.repeat(np.arange(len(views)), [len(found) for found in founds])
        is_cut = np.concatenate([view.is_cut for view in views])
        tile = views[-1].tile
        is_large = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) > LARGE * (tile.right - tile.left)
        return cls(joined, joined.masks.regions, numbers, is_cut, is_large)


def merge_views(views: Sequence[View]) -> Detections:
    """Merge the detections of views into one detection per object.

    Args:
        views: The whole picture first, then its tiles, which have one size.

    Returns:
        All objects, sorted by score.
    """
    pool = Pool.of(views)
    groups = group_rows(pool, [view.tile for view in views])
    merged = [_merge(pool, rows) for rows in groups]
    found = replace(
        pool.found,
        boxes_xyxy=np.array([one.box_xyxy for one in merged], np.float32).reshape(-1, 4),
        scores=np.array([one.score for one in merged], np.float32),
        labels=np.array([one.label for one in merged], np.int64),
        mask_probs=np.array([one.probs for one in merged], np.float32).reshape(-1, *pool.found.mask_probs.shape[1:]),
    )
    order = np.argsort(-found.scores, kind="stable")
    is_cut = np.array([one.is_cut for one in merged], bool)
    return _drop_duplicates(found[order], is_cut[order])


class Groups:
    """Groups of rows that belong to one object (union-find)."""

    def __init__(self, count: int) -> None:
        self._leaders = list(range(count))

    def lead(self, row: int) -> int:
        """The representative row of the object."""
        while self._leaders[row] != row:
            row = self._leaders[row]
        return row

    def join(self, first: int, second: int) -> None:
        """Mark two rows as the same object."""
        self._leaders[self.lead(second)] = self.lead(first)

    def all(self) -> list[list[int]]:
        """The rows of each object."""
        members: dict[int, list[int]] = defaultdict(list)
        for row in range(len(self._leaders)):
            members[self.lead(row)].append(row)
        return list(members.values())


def group_rows(pool: Pool, tiles: Sequence[PictureTile]) -> list[list[int]]:
    """The rows of each object, first by tiles: the whole image may show two small objects as one.

    Args:
        pool: The objects of all views.
        tiles: Tile of each view.
    """
    groups = Groups(len(pool.views))
    of_whole: dict[int, list[int]] = defaultdict(list)
    for first, second in _choose_partners(pool, tiles):
        if pool.views[first] == 0 or pool.views[second] == 0:
            whole, part = (first, second) if pool.views[first] == 0 else (second, first)
            of_whole[whole].append(part)
        else:
            groups.join(first, second)
    known = {groups.lead(row) for row in np.flatnonzero(~pool.is_cut & (pool.views > 0)).tolist()}
    for whole, parts in of_whole.items():
        complete = [part for part in parts if groups.lead(part) in known]
        # Merge parts via the object that contains them. If one tile shows the object whole, that tile is enough.
        for part in complete[:1] or parts:
            groups.join(part, whole)
    return groups.all()


def _choose_partners(pool: Pool, tiles: Sequence[PictureTile]) -> Iterator[tuple[int, int]]:
    """Pairs of rows that are one object, the most certain first.

    An object has at most one partner in each other view. The best matches are made first, so that a person in front of
    another one does not absorb the other.
    """
    taken: set[tuple[int, int]] = set()
    for _, first, second in sorted(_find_pairs(pool, tiles), reverse=True):
        partners = {(first, int(pool.views[second])), (second, int(pool.views[first]))}
        if not partners & taken:
            taken |= partners
            yield first, second


def _find_pairs(pool: Pool, tiles: Sequence[PictureTile]) -> Iterator[tuple[float, int, int]]:
    """Agreement and rows of all pairs of objects from two views that may be one object."""
    for first, second in _close_pairs(pool.found, pool.views):
        shared = tiles[pool.views[first]].shared(tiles[pool.views[second]])
        if shared.is_empty:
            continue
        one, other = (crop(pool.regions[row], shared) for row in (first, second))
        both = count_shared(one, other)
        either = int(one.mask.sum()) + int(other.mask.sum()) - both
        if both and both >= AGREEMENT * either:
            yield both / either, first, second


def _close_pairs(found: Detections, views: Array | None = None) -> Iterator[tuple[int, int]]:
    """All pairs of objects of one class whose boxes intersect, the higher score first; from different views if
    given."""
    boxes = found.boxes_xyxy
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    is_close = (high > low).all(axis=-1) & (found.labels[:, None] == found.labels)
    if views is not None:
        is_close &= views[:, None] != views
    firsts, seconds = np.nonzero(np.triu(is_close, 1))
    yield from zip(firsts.tolist(), seconds.tolist(), strict=True)


class Merged(NamedTuple):
    """One merged object."""

    box_xyxy: Array
    score: float
    label: int
    probs: Array
    """(M, M) float32."""
    is_cut: bool


def _merge(pool: Pool, rows: list[int]) -> Merged:
    """The merged detection of an object: its best whole view, or the union of its parts if no view shows it whole."""
    found = pool.found
    scores = found.scores[rows]
    label = int(found.labels[rows[0]])
    whole = [row for row in rows if not pool.is_cut[row]]
    large = [row for row in rows if pool.views[row] == 0 and pool.is_large[row]]
    if whole or len(rows) == 1:
        weights = np.where(pool.views == 0, COARSE, 1.0) * found.scores
        best = max(large or whole or rows, key=lambda row: weights[row])
        return Merged(found.boxes_xyxy[best], float(scores.max()), label, found.mask_probs[best], not whole)
    parts = found[rows]
    boxes = parts.boxes_xyxy
    box_xyxy = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    frame = box_xyxy + np.array(found.mask_offset_xy * 2, np.float32)
    probs = resample_masks(parts, np.tile(frame, (len(rows), 1)))
    return Merged(box_xyxy, float(scores.max()), label, probs.max(axis=0), True)


def _drop_duplicates(found: Detections, is_cut: Array) -> Detections:
    """Remove objects that a better one of their class covers, and parts of others; sorted by score."""
    regions = found.masks.regions
    areas = [int(region.mask.sum()) for region in regions]
    keeps = np.ones(len(found), bool)
    for first, second in _close_pairs(found):
        if not (keeps[first] and keeps[second]):
            continue
        both = count_shared(regions[first], regions[second])
        if both >= DUPLICATE * (areas[first] + areas[second] - both):
            keeps[second] = both == 0
            continue
        small = first if areas[first] < areas[second] else second
        if is_cut[small] and both >= FRAGMENT * areas[small] > 0:
            keeps[small] = False
    return found[keeps]


def resample_masks(found: Detections, frames_xyxy: Array) -> Array:
    """(N, M, M) float32: masks resampled to other frames, (N, 4) float32 in pixels; zero outside."""
    old = found.masks.frames_xyxy
    if np.array_equal(old, frames_xyxy):
        return found.mask_probs
    rows: Iterable[Array] = (
        resample_mask(probs, *pair) for probs, *pair in zip(found.mask_probs, old, frames_xyxy, strict=True)
    )
    return np.array(list(rows), np.float32).reshape(found.mask_probs.shape)


def resample_mask(probs: Array, old_xyxy: Array, new_xyxy: Array) -> Array:
    """A mask of (M, M) cells resampled from one frame to another: bilinear, zero outside."""
    framed = np.pad(probs, 1)
    columns, share_x = _sample(old_xyxy[0::2], new_xyxy[0::2], len(probs))
    rows, share_y = _sample(old_xyxy[1::2], new_xyxy[1::2], len(probs))
    wide = framed[:, columns] * (1 - share_x) + framed[:, columns + 1] * share_x
    resampled: Array = wide[rows] * (1 - share_y[:, None]) + wide[rows + 1] * share_y[:, None]
    return resampled


def _sample(old: Array, new: Array, cells: int) -> tuple[Array, Array]:
    """Along one axis, for each cell of the new frame: the lower of its two old cells with their border, and the share
    of the upper one; frames are start and end in pixels."""
    centres = new[0] + (np.arange(cells) + 0.5) * (new[1] - new[0]) / cells
    position = (centres - old[0]) * cells / max(float(old[1] - old[0]), 1e-6) + 0.5
    position = np.clip(position, 0, cells + 1)
    lower = np.minimum(position.astype(np.intp), cells)
    return lower, (position - lower).astype(np.float32)


def crop(region: Region, tile: PictureTile) -> Region:
    """The part of a region inside a tile."""
    height, width = region.mask.shape
    left, top = max(region.x, tile.left), max(region.y, tile.top)
    right, bottom = min(region.x + width, tile.right), min(region.y + height, tile.bottom)
    rows = slice(top - region.y, max(top, bottom) - region.y)
    columns = slice(left - region.x, max(left, right) - region.x)
    return Region(left, top, region.mask[rows, columns])


def count_shared(first: Region, second: Region) -> int:
    """Number of pixels that two regions share."""
    height, width = second.mask.shape
    one = crop(first, PictureTile(second.x, second.y, second.x + width, second.y + height))
    other = crop(second, PictureTile(one.x, one.y, one.x + one.mask.shape[1], one.y + one.mask.shape[0]))
    return int(np.count_nonzero(one.mask & other.mask))

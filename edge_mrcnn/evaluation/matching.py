"""Matching of detections with objects of one image by COCO's rule, at all ten IoU thresholds and four sizes at once.

Source: pycocotools/cocoeval.py, `COCOeval.evaluateImg`. The detection with the highest score is matched first. An
object of the evaluated size is preferred to an ignored one, a larger IoU to a smaller one, and of equal ones the later;
a crowd can be matched several times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_mrcnn.evaluation.coco_api import rle

Array = NDArray[Any]
CocoRecord = Mapping[str, Any]
IouType = Literal["bbox", "segm"]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""COCO's ten IoU thresholds, T."""
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Name -> minimum and maximum area in pixels, both inclusive, A; COCO's own."""
MAX_DETECTIONS = 100
"""Maximum number of detections per image and class, the best first."""

_RANGES = np.array(list(SIZES.values()))
_REACH = np.minimum(THRESHOLDS, 1 - 1e-10)
_FIELD: dict[IouType, str] = {"bbox": "bbox", "segm": "segmentation"}


@dataclass(frozen=True, eq=False)
class ImageMatches:
    """Matches of one image: D detections, best score first, and G objects."""

    scores: Array
    """(D,) float."""
    categories: Array
    """(D,) int category ids."""
    ranks: Array
    """(D,) int: rank among the image's detections of that category, from 0."""
    areas: Array
    """(D,) float: area of the box or mask in pixels."""
    true_categories: Array
    """(G,) int category ids."""
    true_areas: Array
    """(G,) float: annotated area in pixels."""
    is_crowd: Array
    """(G,) bool."""
    ious: Array
    """(D, G) float, across categories; for a crowd, relative to the area of the detection alone."""
    matches: Array
    """(A, T, D) int: index of the matched object, -1 for none."""

    @property
    def ignored(self) -> Array:
        """(A, G) bool: crowds, and objects of another size."""
        return self.is_crowd | ~_within(self.true_areas)

    @property
    def hits(self) -> Array:
        """(A, T, D) bool: matched with an object that counts."""
        if not self.is_crowd.size:
            return np.zeros_like(self.matches, dtype=bool)
        sizes = np.arange(len(SIZES))[:, None, None]
        return (self.matches >= 0) & ~self.ignored[sizes, self.matches]

    @property
    def misses(self) -> Array:
        """(A, T, D) bool: not matched, and of the evaluated size itself."""
        return (self.matches < 0) & _within(self.areas)[:, None]


def match_image(results: Sequence[CocoRecord], truths: Sequence[CocoRecord], iou_type: IouType) -> ImageMatches:
    """Match one image's COCO results with its annotations.

    Args:
        results: With category, score and box; for "segm" with compressed RLE. In any order.
        truths: Annotations with category, area, iscrowd and box; for "segm" compressed RLE.
        iou_type: "bbox" or "segm".
    """
    results, ranks = _best_of_each_class(results)
    shapes = [result[_FIELD[iou_type]] for result in results]
    true_shapes = [truth[_FIELD[iou_type]] for truth in truths]
    categories = _column(results, "category_id", int)
    true_categories = _column(truths, "category_id", int)
    true_areas = _column(truths, "area", float)
    is_crowd = _column(truths, "iscrowd", bool)
    ious = np.zeros((len(results), len(truths)))
    if ious.size:
        ious = np.asarray(rle.iou(shapes, true_shapes, is_crowd.astype(np.uint8)))
    same_class = categories[:, None] == true_categories
    ignored = is_crowd | ~_within(true_areas)
    return ImageMatches(
        scores=_column(results, "score", float),
        categories=categories,
        ranks=ranks,
        areas=_areas(shapes, iou_type),
        true_categories=true_categories,
        true_areas=true_areas,
        is_crowd=is_crowd,
        ious=ious,
        matches=_match(ious, same_class, ignored, is_crowd),
    )


def _column(records: Sequence[CocoRecord], key: str, kind: type) -> Array:
    return np.array([record[key] for record in records], dtype=kind)


def _areas(shapes: Sequence[Any], iou_type: IouType) -> Array:
    """(D,) float area in pixels of boxes or of compressed masks."""
    if iou_type == "segm" and shapes:
        return np.array(rle.area(shapes), dtype=float)
    return np.array([width * height for _, _, width, height in shapes], dtype=float)


def _best_of_each_class(results: Sequence[CocoRecord]) -> tuple[list[CocoRecord], Array]:
    """Results in descending order of score, at most `MAX_DETECTIONS` of each category, and each one's rank in its
    category."""
    seen: Counter[int] = Counter()
    kept, ranks = [], []
    for result in sorted(results, key=lambda result: -result["score"]):
        category = result["category_id"]
        if seen[category] < MAX_DETECTIONS:
            kept.append(result)
            ranks.append(seen[category])
        seen[category] += 1
    return kept, np.array(ranks, dtype=int)


def _match(ious: Array, same_class: Array, ignored: Array, is_crowd: Array) -> Array:
    """Greedy matching for all A x T combinations; (A, T, D) index of the object, -1 for none."""
    detections, objects = ious.shape
    ways = (len(SIZES), len(THRESHOLDS))
    matches = np.full((*ways, detections), -1)
    if not objects:
        return matches
    ious = np.where(same_class, ious, -1.0)
    free = np.ones((*ways, objects), dtype=bool)
    counts = ~ignored[:, None]
    near_something = ious.max(axis=1) >= _REACH[0]
    for index in np.flatnonzero(near_something):
        near = free & (ious[index] >= _REACH[:, None])
        proper = near & counts
        eligible = np.where(proper.any(axis=2, keepdims=True), proper, near)  # ignored objects come last
        overlap = np.where(eligible, ious[index], -1.0)
        best = objects - 1 - overlap[..., ::-1].argmax(axis=2)  # of equal overlaps, the last one, as COCOeval does
        size, threshold = np.nonzero(eligible.any(axis=2))
        chosen = best[size, threshold]
        matches[size, threshold, index] = chosen
        free[size, threshold, chosen] = is_crowd[chosen]
    return matches


def _within(areas: Array) -> Array:
    """(A, N) bool: which of the (N,) areas belong to each size."""
    return (areas >= _RANGES[:, :1]) & (areas <= _RANGES[:, 1:])

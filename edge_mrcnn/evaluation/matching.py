"""Which detection meets which object of one image, by COCO's rule, at all ten IoU thresholds and four sizes at once.

Source: pycocotools/cocoeval.py, `COCOeval.evaluateImg`: the best score chooses first; an object of the asked size goes
before one that is ignored, a larger IoU before a smaller one, and of equal ones the later; a crowd may be met again.
"""

from __future__ import annotations

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
"""Name to the least and largest area in pixels, both inclusive, A; COCO's own."""
MAX_DETECTIONS = 100
"""Detections at most that count in one image and class, the best first."""

_RANGES = np.array(list(SIZES.values()))
_REACH = np.minimum(THRESHOLDS, 1 - 1e-10)
_FIELD: dict[IouType, str] = {"bbox": "bbox", "segm": "segmentation"}


@dataclass(frozen=True, eq=False)
class ImageMatches:
    """One image: D detections, best score first, beside G objects, and who meets whom."""

    scores: Array
    """(D,) float."""
    categories: Array
    """(D,) int category ids."""
    ranks: Array
    """(D,) int: place among the image's detections of that category, from 0."""
    areas: Array
    """(D,) float: pixels of the box or mask."""
    true_categories: Array
    """(G,) int category ids."""
    true_areas: Array
    """(G,) float: pixels, as annotated."""
    is_crowd: Array
    """(G,) bool."""
    ious: Array
    """(D, G) float, across categories; over the detection alone where the object is a crowd."""
    matches: Array
    """(A, T, D) int: the object met, -1 for none."""

    @property
    def ignored(self) -> Array:
        """(A, G) bool: crowds, and objects of another size."""
        return self.is_crowd | ~_within(self.true_areas)

    @property
    def hits(self) -> Array:
        """(A, T, D) bool: met an object that counts."""
        if not self.is_crowd.size:
            return np.zeros_like(self.matches, dtype=bool)
        sizes = np.arange(len(SIZES))[:, None, None]
        return (self.matches >= 0) & ~self.ignored[sizes, self.matches]

    @property
    def misses(self) -> Array:
        """(A, T, D) bool: met nothing, and is of the asked size itself."""
        return (self.matches < 0) & _within(self.areas)[:, None]


def match_image(results: Sequence[CocoRecord], truths: Sequence[CocoRecord], iou_type: IouType) -> ImageMatches:
    """Match one image's COCO results with its annotations.

    Args:
        results: With category, score and box; for "segm" compressed RLE. In any order.
        truths: Annotations with category, area, iscrowd and box; for "segm" compressed RLE.
        iou_type: "bbox" or "segm".
    """
    results, ranks = _best_of_each_class(results)
    field = _FIELD[iou_type]
    shapes = [result[field] for result in results]
    is_crowd = np.array([bool(truth["iscrowd"]) for truth in truths], dtype=bool)
    ious = np.zeros((len(results), len(truths)))
    if ious.size:
        ious = np.asarray(rle.iou(shapes, [truth[field] for truth in truths], is_crowd.astype(np.uint8)))
    areas = rle.area(shapes) if iou_type == "segm" and shapes else [box[2] * box[3] for box in shapes]
    categories = np.array([result["category_id"] for result in results], dtype=int)
    true_categories = np.array([truth["category_id"] for truth in truths], dtype=int)
    true_areas = np.array([truth["area"] for truth in truths], dtype=float)
    return ImageMatches(
        scores=np.array([result["score"] for result in results], dtype=float),
        categories=categories,
        ranks=ranks,
        areas=np.array(areas, dtype=float),
        true_categories=true_categories,
        true_areas=true_areas,
        is_crowd=is_crowd,
        ious=ious,
        matches=_match(ious, categories[:, None] == true_categories, is_crowd | ~_within(true_areas), is_crowd),
    )


def _best_of_each_class(results: Sequence[CocoRecord]) -> tuple[list[CocoRecord], Array]:
    """Results by falling score, at most `MAX_DETECTIONS` of each category, and each one's rank in its category."""
    seen: dict[int, int] = {}
    kept, ranks = [], []
    for result in sorted(results, key=lambda r: -r["score"]):
        rank = seen.get(result["category_id"], 0)
        seen[result["category_id"]] = rank + 1
        if rank < MAX_DETECTIONS:
            kept.append(result)
            ranks.append(rank)
    return kept, np.array(ranks, dtype=int)


def _match(ious: Array, same_class: Array, ignored: Array, is_crowd: Array) -> Array:
    """Greedy matching in all A x T ways; (A, T, D) index of the object, -1 for none."""
    detections, objects = ious.shape
    matches = np.full((len(SIZES), len(THRESHOLDS), detections), -1)
    if not objects:
        return matches
    ious = np.where(same_class, ious, -1.0)
    free = np.ones((len(SIZES), len(THRESHOLDS), objects), dtype=bool)
    counts = ~ignored[:, None]
    for index in np.flatnonzero(ious.max(axis=1) >= _REACH[0]):
        near = free & (ious[index] >= _REACH[:, None])
        proper = near & counts
        eligible = np.where(proper.any(axis=2, keepdims=True), proper, near)
        best = objects - 1 - np.where(eligible, ious[index], -1.0)[..., ::-1].argmax(axis=2)
        size, threshold = np.nonzero(eligible.any(axis=2))
        chosen = best[size, threshold]
        matches[size, threshold, index] = chosen
        free[size, threshold, chosen] = is_crowd[chosen]
    return matches


def _within(areas: Array) -> Array:
    """(A, N) bool: which of the (N,) areas belong to each size."""
    return (areas >= _RANGES[:, :1]) & (areas <= _RANGES[:, 1:])

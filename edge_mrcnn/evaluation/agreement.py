"""Agreement of two models on the same images, independent of the ground truth.

AP changes little when a few confident objects disappear, but a user of the camera sees that at once. So the objects of
two models are matched one to one, and the images are ranked by their differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_mrcnn.evaluation.coco_api import rle
from edge_mrcnn.evaluation.image_results import Result

CONFIDENT = 0.5
"""Score above which an object counts as shown, in [0, 1]."""
SAME_OBJECT = 0.5
"""IoU above which two boxes of one class belong to the same object, in [0, 1]."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Agreement:
    """A candidate's detections compared with the reference's."""

    objects: int
    """Number of confident detections of the reference."""
    found: float
    """Share of them that the candidate also has, at any score; nan without any."""
    mask_iou: float
    """Mean mask IoU of the pairs; nan without any."""
    score_shift: float
    """Mean of candidate's minus reference's score over the pairs; nan without any."""
    change: dict[int, float] = field(repr=False)
    """Image id -> difference among confident objects: 0 is none, 1 means no pixel in common."""


def compare(
    reference: Mapping[int, Sequence[Result]], candidate: Mapping[int, Sequence[Result]], image_ids: Iterable[int]
) -> Agreement:
    """Match two models' COCO results image by image.

    Args:
        reference: Image id -> results with box, compressed mask and score, best score first.
        candidate: The same of another model.
        image_ids: Images that both models have processed.
    """
    objects = 0
    ious: list[float] = []
    shifts: list[float] = []
    change: dict[int, float] = {}
    for image_id in image_ids:
        theirs = candidate[image_id]
        seen = confident(reference[image_id])
        objects += len(seen)
        for i, j in match(seen, theirs):
            ious.append(mask_iou(seen[i], theirs[j]))
            shifts.append(theirs[j]["score"] - seen[i]["score"])
        change[image_id] = image_change(seen, confident(theirs))
    return Agreement(
        objects=objects,
        found=len(ious) / objects if objects else np.nan,
        mask_iou=_mean(ious),
        score_shift=_mean(shifts),
        change=change,
    )


def confident(results: Iterable[Result]) -> list[Result]:
    """Detections that a viewer would see."""
    return [result for result in results if result["score"] > CONFIDENT]


def match(first: Sequence[Result], second: Sequence[Result]) -> list[Pair]:
    """Match objects of one class one to one, the largest box IoU first.

    Returns:
        Indices into `first` and `second`; the IoU of each pair exceeds `SAME_OBJECT`.
    """
    if not first or not second:
        return []
    no_crowds = [0] * len(second)
    ious = rle.iou(_column(first, "bbox"), _column(second, "bbox"), no_crowds)
    same_class = np.equal.outer(_column(first, "category_id"), _column(second, "category_id"))
    ious = np.where(same_class, ious, 0.0)
    pairs = []
    while ious.max() > SAME_OBJECT:
        i, j = np.unravel_index(ious.argmax(), ious.shape)
        pairs.append((int(i), int(j)))
        ious[i, :] = 0.0
        ious[:, j] = 0.0
    return pairs


def _column(results: Sequence[Result], key: str) -> list[Any]:
    return [result[key] for result in results]


def mask_iou(first: Result, second: Result) -> float:
    """IoU of two results' masks, in [0, 1]."""
    return float(rle.iou([first["segmentation"]], [second["segmentation"]], [0])[0, 0])


def image_change(first: Sequence[Result], second: Sequence[Result]) -> float:
    """One minus the panoptic quality of two results for one image: 0 if equal, 1 with nothing in common.

    Source: Panoptic Segmentation, arXiv 1801.00868, section 4.2, with pairs by box.
    """
    if not first and not second:
        return 0.0
    shared = 0.0
    for i, j in match(first, second):
        shared += mask_iou(first[i], second[j])
    return 1.0 - 2.0 * shared / (len(first) + len(second))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")

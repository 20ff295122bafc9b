"""Average precision as COCO defines it, computed by pycocotools without its printing.

Source: https://cocodataset.org/#detection-eval and pycocotools/cocoeval.py.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from edge_mrcnn.report.coco_api import COCO, COCOeval

IouType = Literal["bbox", "segm"]
CocoRecord = dict[str, Any]

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers by their usual names, in COCO's and `ApSummary`'s order."""


RECALLS = np.linspace(0.0, 1.0, 101)
"""Where COCO reads the precision."""
RESAMPLES = 200
"""Sets of images behind the interval of a drop."""


@dataclass(frozen=True)
class ApSummary:
    """COCO's twelve numbers in [0, 1]; nan where the ground truth holds no such object."""

    ap: float
    """Mean over IoU 0.50:0.95, the COCO metric."""
    ap50: float
    ap75: float
    ap_small: float
    """Objects below 32 x 32 pixels."""
    ap_medium: float
    ap_large: float
    """Objects above 96 x 96 pixels."""
    ar1: float
    """Mean recall with one detection per image and class."""
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float

    def by_name(self) -> dict[str, float]:
        """The numbers under COCO's names, `STATS`."""
        return dict(zip(STATS, astuple(self), strict=True))


@dataclass(frozen=True)
class ClassMatches:
    """How one class's D detections in I images met the ground truth, best score first, objects of all sizes."""

    image: np.ndarray
    """(D,) int: index of the detection's image."""
    hit: np.ndarray
    """(T, D) bool: matched with an object at each of COCO's ten IoU thresholds."""
    miss: np.ndarray
    """(T, D) bool: matched with nothing; neither a hit nor a miss on a crowd."""
    objects: np.ndarray
    """(I,) int: objects in each image, crowds left out."""

    def average_precision(self, weights: np.ndarray) -> float:
        """AP where each image counts as often as (I,) `weights` says; nan without any object."""
        objects = int(self.objects @ weights)
        if not objects:
            return math.nan
        times = weights[self.image]
        hits, misses = np.cumsum(self.hit * times, axis=1), np.cumsum(self.miss * times, axis=1)
        curves = zip(hits / objects, hits / np.maximum(hits + misses, 1), strict=True)
        return float(np.mean([_interpolate(recall, precision) for recall, precision in curves]))


@dataclass(frozen=True)
class ApResult:
    """One metric over one data set, with what is needed to resample its images."""

    summary: ApSummary
    per_class: dict[int, float]
    """AP of each category id; nan where the ground truth holds none of it."""
    image_ids: tuple[int, ...]
    """The images, in the order that the matches index."""
    matches: tuple[ClassMatches, ...] = field(repr=False)
    """One per category."""

    def average_precision(self, weights: np.ndarray) -> float:
        """Mean AP of the classes where each image counts as often as (images,) `weights` says."""
        values = [value for m in self.matches if not math.isnan(value := m.average_precision(weights))]
        return float(np.mean(values)) if values else math.nan

    @cached_property
    def resampled(self) -> np.ndarray:
        """(RESAMPLES,) AP on as many sets of images drawn with replacement, the same sets for every result."""
        count = len(self.image_ids)
        generator = np.random.default_rng(0)
        draws = (generator.integers(0, count, count) for _ in range(RESAMPLES))
        return np.array([self.average_precision(np.bincount(draw, minlength=count)) for draw in draws])


def coco_summary(ground_truth: CocoRecord, results: Sequence[CocoRecord], iou_type: IouType) -> ApSummary:
    """COCO's twelve numbers over all images and categories; see `measure_ap`."""
    return measure_ap(ground_truth, results, iou_type).summary


def measure_ap(
    ground_truth: CocoRecord,
    results: Sequence[CocoRecord],
    iou_type: IouType,
    *,
    category_ids: Sequence[int] | None = None,
) -> ApResult:
    """Run COCO's evaluation.

    Args:
        ground_truth: COCO instance annotations with `images`, `annotations` and `categories`; left unchanged.
        results: COCO results; none at all is valid. For "segm" the size of an object is its mask's, as in COCO.
        iou_type: "bbox" or "segm".
        category_ids: Categories to evaluate; all if None.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(copy.deepcopy(ground_truth))
        evaluation = COCOeval(truth, _load_results(truth, results, iou_type), iou_type)
        if category_ids is not None:
            evaluation.params.catIds = sorted(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    image_order = tuple(int(i) for i in evaluation.params.imgIds)
    return ApResult(_summary(evaluation), _per_class(evaluation), image_order, _matches(evaluation))


def drop_interval(reference: ApResult, candidate: ApResult, *, level: float = 0.95) -> tuple[float, float]:
    """How far the AP drop could differ on other images of the same kind: a paired bootstrap over images.

    Args:
        reference: The model that the drop is counted from.
        candidate: Another model on the very same images and categories.
        level: Share of the resampled sets of images inside the interval, in (0, 1).

    Returns:
        Lower and upper end of the drop in AP, in [-1, 1]; nan where no set can be measured.
    """
    if reference.image_ids != candidate.image_ids or reference.per_class.keys() != candidate.per_class.keys():
        raise ValueError("expected two results on the same images and categories")
    drops = reference.resampled - candidate.resampled
    known = drops[~np.isnan(drops)]
    if not known.size:
        return math.nan, math.nan
    tail = (1 - level) / 2
    low, high = np.quantile(known, (tail, 1 - tail))
    return float(low), float(high)


def _index(record: CocoRecord) -> COCO:
    coco = COCO()
    coco.dataset = record
    coco.createIndex()
    return coco


def _load_results(truth: COCO, results: Sequence[CocoRecord], iou_type: IouType) -> COCO:
    if not results:
        return _index({**truth.dataset, "annotations": []})
    other = "bbox" if iou_type == "segm" else "segmentation"  # with both, loadRes would take the box's area for a mask
    return truth.loadRes([{k: v for k, v in result.items() if k != other} for result in results])


def _summary(evaluation: COCOeval) -> ApSummary:
    return ApSummary(*(math.nan if value < 0 else float(value) for value in evaluation.stats))


def _per_class(evaluation: COCOeval) -> dict[int, float]:
    precision = evaluation.eval["precision"][..., 0, -1]  # (IoU, recall, class) at all areas and 100 detections
    return {int(c): _valid_mean(precision[:, :, k]) for k, c in enumerate(evaluation.params.catIds)}


def _valid_mean(values: np.ndarray) -> float:
    """Mean without pycocotools' -1, which stands for "no such object"."""
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else math.nan


def _matches(evaluation: COCOeval) -> tuple[ClassMatches, ...]:
    params = evaluation.params
    table = np.empty(len(evaluation.evalImgs), dtype=object)
    table[:] = evaluation.evalImgs
    of_all_sizes = table.reshape(len(params.catIds), len(params.areaRng), len(params.imgIds))[:, 0]
    return tuple(_class_matches(row, len(params.iouThrs)) for row in of_all_sizes)


def _class_matches(records: Sequence[CocoRecord | None], thresholds: int) -> ClassMatches:
    """pycocotools' records of one class, one per image, as arrays; None where neither side has anything."""
    known = [(i, record) for i, record in enumerate(records) if record is not None]
    objects = np.zeros(len(records), dtype=int)
    for i, record in known:
        objects[i] = np.count_nonzero(np.asarray(record["gtIgnore"]) == 0)
    none = np.zeros((thresholds, 0), dtype=bool)
    image = np.concatenate([np.zeros(0, int), *(np.full(len(r["dtScores"]), i) for i, r in known)])
    scores = np.concatenate([np.zeros(0), *(r["dtScores"] for _, r in known)])
    matched = np.concatenate([none, *(r["dtMatches"] > 0 for _, r in known)], axis=1)
    ignored = np.concatenate([none, *(r["dtIgnore"].astype(bool) for _, r in known)], axis=1)
    order = np.argsort(-scores, kind="mergesort")  # the sort of COCOeval.accumulate, stable
    hit, miss = matched & ~ignored, ~matched & ~ignored
    return ClassMatches(image[order], hit[:, order], miss[:, order], objects)


def _interpolate(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean precision at `RECALLS`, each the best at that recall or beyond."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(recall, RECALLS, side="left")].mean())

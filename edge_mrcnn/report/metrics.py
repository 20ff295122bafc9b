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
from typing import Any, Literal

import numpy as np

from edge_mrcnn.report.coco_api import COCO, COCOeval

IouType = Literal["bbox", "segm"]
CocoRecord = dict[str, Any]

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers by their usual names, in COCO's and `ApSummary`'s order."""


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
class ApResult:
    """One metric over one data set, with what is needed to resample its images."""

    summary: ApSummary
    per_class: dict[int, float]
    """AP of each category id; nan where the ground truth holds none of it."""
    matches: np.ndarray = field(repr=False)
    """(classes, images) object: pycocotools' matches of one class in one image, all areas; None where neither side
    has anything."""


def coco_summary(ground_truth: CocoRecord, results: Sequence[CocoRecord], iou_type: IouType) -> ApSummary:
    """COCO's twelve numbers over all images and categories; see `measure_ap`."""
    return measure_ap(ground_truth, results, iou_type).summary


def measure_ap(
    ground_truth: CocoRecord,
    results: Sequence[CocoRecord],
    iou_type: IouType,
    *,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
) -> ApResult:
    """Run COCO's evaluation.

    Args:
        ground_truth: COCO instance annotations with `images`, `annotations` and `categories`; left unchanged.
        results: COCO results; none at all is valid. For "segm" the size of an object is its mask's, as in COCO.
        iou_type: "bbox" or "segm".
        image_ids: Images to evaluate; all if None.
        category_ids: Categories to evaluate; all if None.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _index(copy.deepcopy(ground_truth))
        evaluation = COCOeval(truth, _load_results(truth, results, iou_type), iou_type)
        if image_ids is not None:
            evaluation.params.imgIds = sorted(image_ids)
        if category_ids is not None:
            evaluation.params.catIds = sorted(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return ApResult(_summary(evaluation), _per_class(evaluation), _matches(evaluation))


def drop_interval(
    reference: ApResult, candidate: ApResult, *, samples: int = 200, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """How far the AP drop could differ on other images of the same kind: a paired bootstrap over images.

    Args:
        reference: The model that the drop is counted from.
        candidate: Another model on the very same images and categories.
        samples: Number of resampled data sets.
        level: Share of them inside the interval, in (0, 1).
        seed: Of the resampling.

    Returns:
        Lower and upper end of the drop in AP, in [-1, 1].
    """
    if reference.matches.shape != candidate.matches.shape:
        raise ValueError("expected two results on the same images and categories")
    images = reference.matches.shape[1]
    generator = np.random.default_rng(seed)
    drops = []
    for _ in range(samples):
        chosen = generator.integers(0, images, images)
        drops.append(_ap_of(reference.matches[:, chosen]) - _ap_of(candidate.matches[:, chosen]))
    tail = (1 - level) / 2
    low, high = np.nanquantile(drops, (tail, 1 - tail)) if not np.all(np.isnan(drops)) else (math.nan, math.nan)
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


def _matches(evaluation: COCOeval) -> np.ndarray:
    params = evaluation.params
    shape = (len(params.catIds), len(params.areaRng), len(params.imgIds))
    matches = np.empty(len(evaluation.evalImgs), dtype=object)
    matches[:] = evaluation.evalImgs
    return matches.reshape(shape)[:, 0]


def _ap_of(matches: np.ndarray) -> float:
    """AP of (classes, images) matches; the same arithmetic as COCOeval.accumulate, all areas, 100 detections."""
    values = [ap for ap in (_class_ap([m for m in row if m is not None]) for row in matches) if not math.isnan(ap)]
    return float(np.mean(values)) if values else math.nan


RECALLS = np.linspace(0.0, 1.0, 101)


def _class_ap(matches: list[CocoRecord]) -> float:
    objects = sum(int(np.count_nonzero(np.asarray(m["gtIgnore"]) == 0)) for m in matches)
    if not objects:
        return math.nan
    scores = np.concatenate([m["dtScores"] for m in matches])
    order = np.argsort(-scores, kind="mergesort")
    matched = np.concatenate([m["dtMatches"] for m in matches], axis=1)[:, order] > 0
    counted = ~np.concatenate([m["dtIgnore"] for m in matches], axis=1)[:, order].astype(bool)
    hits, misses = np.cumsum(matched & counted, axis=1), np.cumsum(~matched & counted, axis=1)
    return float(
        np.mean([_interpolated(h / objects, h / np.maximum(h + m, 1)) for h, m in zip(hits, misses, strict=True)])
    )


def _interpolated(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean precision at 101 recalls, each the best at that recall or beyond."""
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(recall, RECALLS, side="left")].mean())

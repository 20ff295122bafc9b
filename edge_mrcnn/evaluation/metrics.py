"""Average precision as defined by COCO, computed image by image, without keeping masks or a table of all images.

The numbers are equal to those of pycocotools, which keeps a record per image, class and size instead;
`benchmarks/evaluator.py` compares the two.

Source: https://cocodataset.org/#detection-eval and pycocotools/cocoeval.py.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from edge_mrcnn.evaluation.coco_api import rle
from edge_mrcnn.evaluation.matching import SIZES, THRESHOLDS, Array, ImageMatches, IouType, match_image

CocoData = dict[str, Any]

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers by their usual names, in COCO's and `ApSummary`'s order."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Recall values at which COCO samples the precision."""
RESAMPLES = 400
"""Number of resampled image sets for the confidence interval of a drop."""
_CHUNK = 1 << 20
"""Maximum number of values that resampling keeps in memory at a time."""


@dataclass(frozen=True)
class ApSummary:
    """COCO's twelve metrics in [0, 1]; nan if the ground truth has no such object."""

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


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """Matches of one class: D detections in I images, best score first."""

    images: Array
    """(D,) int: index of the detection's image."""
    ranks: Array
    """(D,) int: rank among its image's detections of the class."""
    hits: Array
    """(A, T, D) bool: matched with an object, for each of COCO's sizes and IoU thresholds."""
    misses: Array
    """(A, T, D) bool: not matched; detections on crowds or of another size are neither hits nor misses."""
    objects: Array
    """(A, I) int: number of objects of each size in each image, without crowds."""

    def precision(self, size: int = 0) -> Array:
        """(T,) AP at each threshold; nan without any object of that size."""
        return average_precision(self.hits[size], self.misses[size], self.objects[size].sum())

    def recall(self, size: int = 0, first: int = 100) -> float:
        """Mean recall over the thresholds with the `first` detections of each image; nan without any object."""
        objects = int(self.objects[size].sum())
        if not objects:
            return math.nan
        hits = self.hits[size][:, self.ranks < first].sum()
        return float(hits / objects / len(THRESHOLDS))

    def resampled(self, weights: Array) -> Array:
        """(R,) AP with the images weighted by (R, I) `weights`; nan without any object."""
        objects = weights @ self.objects[0]
        step = max(1, _CHUNK // max(1, self.images.size))
        parts = []
        for start in range(0, len(weights), step):
            some = slice(start, start + step)
            parts.append(self._weighted(weights[some], objects[some]))
        return np.concatenate(parts)

    def _weighted(self, weights: Array, objects: Array) -> Array:
        times = weights[:, self.images]  # weight of each detection
        counted, shown = None, times
        values = []
        for hits, misses in zip(self.hits[0], self.misses[0], strict=True):
            counts = hits | misses
            if counted is None or not np.array_equal(counted, counts):  # seldom true: most IoU thresholds count alike
                counted = counts
                shown = np.cumsum(times * counts, axis=1)
            columns = np.flatnonzero(hits)
            found = np.cumsum(times[:, columns], axis=1)
            values.append(_read_curve(found, shown[:, columns], objects))
        return np.asarray(np.mean(values, axis=0))


@dataclass(frozen=True, eq=False)
class ApResult:
    """One metric on one data set, with the data to resample its images."""

    image_ids: tuple[int, ...]
    """The images, in the order of the matches' indices."""
    matches: dict[int, ClassMatches] = field(repr=False)
    """Category id -> matches."""

    @cached_property
    def per_class(self) -> dict[int, float]:
        """AP of each category id; nan if the ground truth has no object of it."""
        return {category: float(matches.precision().mean()) for category, matches in self.matches.items()}

    @cached_property
    def summary(self) -> ApSummary:
        """COCO's twelve numbers."""
        sizes = range(len(SIZES))
        ap, ap_small, ap_medium, ap_large = (self._mean_precision(size) for size in sizes)
        ar, ar_small, ar_medium, ar_large = (self._mean_recall(size) for size in sizes)
        return ApSummary(
            ap=ap,
            ap50=self._mean_precision(threshold=0),
            ap75=self._mean_precision(threshold=5),
            ap_small=ap_small,
            ap_medium=ap_medium,
            ap_large=ap_large,
            ar1=self._mean_recall(first=1),
            ar10=self._mean_recall(first=10),
            ar100=ar,
            ar_small=ar_small,
            ar_medium=ar_medium,
            ar_large=ar_large,
        )

    def _mean_precision(self, size: int = 0, threshold: int | None = None) -> float:
        """Mean over the classes that can be measured, at one threshold or at all; nan if there are none."""
        wanted = slice(None) if threshold is None else threshold
        values = [matches.precision(size)[wanted] for matches in self.matches.values()]
        return _mean_known(np.array(values))

    def _mean_recall(self, size: int = 0, first: int = 100) -> float:
        values = [matches.recall(size, first) for matches in self.matches.values()]
        return _mean_known(np.array(values))

    def weighted(self, weights: Array) -> Array:
        """(R,) mean AP of the classes with the images weighted by (R, images) `weights`."""
        values = np.array([matches.resampled(weights) for matches in self.matches.values()])
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        total = np.where(known, values, 0.0).sum(axis=0)
        return np.where(count, total / np.maximum(count, 1), math.nan)

    @cached_property
    def resampled(self) -> Array:
        """(RESAMPLES,) AP on image sets drawn with replacement; every result uses the same sets."""
        count = len(self.image_ids)
        generator = np.random.default_rng(0)
        weights = []
        for _ in range(RESAMPLES):
            drawn = generator.integers(0, count, count)
            weights.append(np.bincount(drawn, minlength=count))
        return self.weighted(np.array(weights))


class _Kept(NamedTuple):
    """Matches of one image, D detections and G objects, without their shapes."""

    categories: Array
    scores: Array
    ranks: Array
    hits: Array
    misses: Array
    true_categories: Array
    is_counted: Array
    """(A, G) bool: objects of each size, without crowds."""


class ApMeter:
    """Receives matched images one by one, in any order; the result does not depend on it."""

    def __init__(self, categories: Sequence[int]) -> None:
        """Measure these categories, by id; all others are ignored."""
        self._categories = sorted(categories)
        self._images: dict[int, _Kept] = {}

    def add(self, image_id: int, matched: ImageMatches) -> None:
        """Add one image's matches, without its shapes."""
        self._images[image_id] = _Kept(
            matched.categories,
            matched.scores,
            matched.ranks,
            matched.hits,
            matched.misses,
            matched.true_categories,
            ~matched.ignored,
        )

    def result(self) -> ApResult:
        """The metric over all images so far."""
        image_ids = tuple(sorted(self._images))
        images = [self._images[image_id] for image_id in image_ids]
        numbers = np.arange(len(images))
        image_of_detection = np.repeat(numbers, [image.categories.size for image in images])
        image_of_object = np.repeat(numbers, [image.true_categories.size for image in images])
        joined = _join(images)

        matches = {}
        for category in self._categories:
            rows = np.flatnonzero(joined.categories == category)
            rows = rows[np.argsort(-joined.scores[rows], kind="stable")]  # sorted as in COCOeval.accumulate
            is_own = joined.true_categories == category
            objects = []
            for is_counted in joined.is_counted:
                objects.append(np.bincount(image_of_object[is_counted & is_own], minlength=len(images)))
            matches[category] = ClassMatches(
                images=image_of_detection[rows],
                ranks=joined.ranks[rows],
                hits=joined.hits[..., rows],
                misses=joined.misses[..., rows],
                objects=np.array(objects),
            )
        return ApResult(image_ids, matches)


def _join(images: Sequence[_Kept]) -> _Kept:
    """The detections and objects of all images, concatenated; empty arrays without images."""
    sizes, thresholds = len(SIZES), len(THRESHOLDS)
    nothing = _Kept(
        categories=np.zeros(0, int),
        scores=np.zeros(0, float),
        ranks=np.zeros(0, int),
        hits=np.zeros((sizes, thresholds, 0), bool),
        misses=np.zeros((sizes, thresholds, 0), bool),
        true_categories=np.zeros(0, int),
        is_counted=np.zeros((sizes, 0), bool),
    )
    columns = zip(nothing, *images, strict=True)
    joined = [np.concatenate(column, axis=-1) for column in columns]
    return _Kept(*joined)


def average_precision(hits: Array, misses: Array, objects: Array | int) -> Array:
    """Mean precision at `RECALLS`, where each is the best precision at that recall or higher.

    Args:
        hits: (N, D) int or bool: weight of each detection as a hit, best score first.
        misses: (N, D) the same for misses.
        objects: (N,) or one number: number of objects.

    Returns:
        (N,) float in [0, 1]; nan without objects.
    """
    columns = np.flatnonzero(hits.any(axis=0))
    found = np.cumsum(hits, axis=1, dtype=np.int64)[:, columns]
    missed = np.cumsum(misses, axis=1, dtype=np.int64)[:, columns]
    return _read_curve(found, found + missed, np.broadcast_to(objects, len(hits)))


def _read_curve(found: Array, shown: Array, objects: Array) -> Array:
    """AP of N curves from the counts at their hits, because precision increases only there.

    Args:
        found: (N, H) int: number of hits up to each of these detections, itself included.
        shown: (N, H) int: hits and misses.
        objects: (N,) int.
    """
    if not found.shape[1]:
        return np.where(objects > 0, 0.0, math.nan)
    precision = found / np.maximum(shown, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = found / np.maximum(objects, 1)[:, None]
    nearest = np.rint(recall * (RECALLS.size - 1)).astype(np.intp)
    reached = nearest + (RECALLS[nearest] <= recall)  # number of `RECALLS` at or below the recall
    newly = np.diff(reached, axis=1, prepend=0)
    return np.where(objects > 0, (best * newly).sum(axis=1) / RECALLS.size, math.nan)


def coco_summary(ground_truth: CocoData, results: Sequence[CocoData], iou_type: IouType) -> ApSummary:
    """COCO's twelve numbers over all images and categories; see `measure_ap`."""
    return measure_ap(ground_truth, results, iou_type).summary


def measure_ap(
    ground_truth: CocoData,
    results: Sequence[CocoData],
    iou_type: IouType,
    *,
    category_ids: Sequence[int] | None = None,
) -> ApResult:
    """Evaluate plain COCO records.

    Args:
        ground_truth: COCO instance annotations with `images`, `annotations` and `categories`; left unchanged.
        results: COCO results; an empty list is valid. For "segm" the size of an object is that of its mask, as in COCO.
        iou_type: "bbox" or "segm".
        category_ids: Categories to evaluate; all if None.
    """
    if category_ids is None:
        category_ids = [category["id"] for category in ground_truth["categories"]]
    truths = _group(ground_truth["annotations"], category_ids)
    by_image = _group(results, category_ids)
    meter = ApMeter(category_ids)
    for image in ground_truth["images"]:
        annotations = truths[image["id"]]
        if iou_type == "segm":
            size = (image["height"], image["width"])
            annotations = [_as_rle(annotation, size) for annotation in annotations]
        meter.add(image["id"], match_image(by_image[image["id"]], annotations, iou_type))
    return meter.result()


def drop_interval(reference: ApResult, candidate: ApResult, *, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the drop in AP on other images of the same kind: a paired bootstrap over images.

    Args:
        reference: The reference model.
        candidate: Another model on the same images and categories.
        level: Confidence level, in (0, 1).

    Returns:
        Lower and upper end of the drop in AP, in [-1, 1]; nan if no image set can be measured.
    """
    if reference.image_ids != candidate.image_ids or reference.matches.keys() != candidate.matches.keys():
        raise ValueError("expected two results on the same images and categories")
    drops = reference.resampled - candidate.resampled
    known = drops[~np.isnan(drops)]
    if not known.size:
        return math.nan, math.nan
    tail = (1 - level) / 2
    low, high = np.quantile(known, (tail, 1 - tail))
    return float(low), float(high)


def _group(records: Sequence[CocoData], categories: Sequence[int]) -> defaultdict[int, list[CocoData]]:
    wanted = set(categories)
    groups: defaultdict[int, list[CocoData]] = defaultdict(list)
    for record in records:
        if record["category_id"] in wanted:
            groups[record["image_id"]].append(record)
    return groups


def _as_rle(annotation: CocoData, size_hw: tuple[int, int]) -> CocoData:
    """A copy with its polygons or run lengths compressed."""
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        shape = rle.merge(rle.frPyObjects(shape, *size_hw))
    elif isinstance(shape["counts"], list):
        shape = rle.frPyObjects(shape, *size_hw)
    return {**annotation, "segmentation": shape}


def _mean_known(values: Array) -> float:
    """Mean of the values that are not nan; nan if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan

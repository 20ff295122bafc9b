"""Accuracy of one runtime on one data set, as COCO's metrics.

Images are processed one by one. Only the matches and the run-length encoded results of each image are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.evaluation.breakdown import ErrorCost, ErrorMeter
from edge_mrcnn.evaluation.image_results import ImageResults, Result
from edge_mrcnn.evaluation.matching import match_image
from edge_mrcnn.evaluation.metrics import ApMeter, ApResult, ApSummary
from edge_mrcnn.evaluation.pairing import SightingMeter, Sightings
from edge_mrcnn.measure.latency import Percentiles, summarize_latency
from runtimes.errors import DataError
from runtimes.model_card import ModelCard, plain_class_name
from runtimes.preprocess import read_image
from runtimes.progress import Progress, silent


@dataclass(frozen=True)
class Evaluation:
    """Result of one runtime on one data set."""

    box_result: ApResult = field(repr=False)
    mask_result: ApResult = field(repr=False)
    box_costs: dict[str, ErrorCost] = field(repr=False)
    """Error type -> its cost in box AP."""
    mask_costs: dict[str, ErrorCost] = field(repr=False)
    """Error type -> its cost in mask AP."""
    sightings: Sightings = field(repr=False)
    categories: dict[int, str]
    """The evaluated categories: those of the data set that the model has."""
    latency: dict[str, Percentiles]
    """Stage -> times: "preprocess", "inference", "postprocess" and their sum, "total"."""
    image_ids: tuple[int, ...]
    """The images that were evaluated, in the data set's order."""
    results: ImageResults = field(repr=False)
    """COCO results of each image with the data set's category ids, boxes and compressed masks."""

    @property
    def box(self) -> ApSummary:
        """COCO's metrics for boxes."""
        return self.box_result.summary

    @property
    def mask(self) -> ApSummary:
        """COCO's metrics for masks."""
        return self.mask_result.summary

    @property
    def box_per_class(self) -> dict[int, float]:
        """Box AP of each evaluated category id; nan if the data set has no object of it."""
        return self.box_result.per_class

    @property
    def mask_per_class(self) -> dict[int, float]:
        """Mask AP of each evaluated category id; nan if the data set has no object of it."""
        return self.mask_result.per_class

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.image_ids)


class Evaluator:
    """Receives the results of the images one by one."""

    def __init__(self, data: CocoData, categories: Sequence[int]) -> None:
        """Measure these categories of a data set, by id."""
        self._data = data
        self._categories = sorted(set(categories))
        self._ap = {"bbox": ApMeter(self._categories), "segm": ApMeter(self._categories)}
        self._mistakes = {"bbox": ErrorMeter(self._categories), "segm": ErrorMeter(self._categories)}
        self._sightings = SightingMeter()
        self._results = ImageResults()

    def add(self, image_id: int, results: Sequence[Result]) -> None:
        """Add one image's COCO results, with the data set's category ids."""
        truths = []
        for truth in self._data.annotations(image_id):
            if truth["category_id"] in self._categories:
                truths.append(truth)
        boxes = match_image(results, truths, "bbox")
        masks = match_image(results, truths, "segm")
        self._ap["bbox"].add(image_id, boxes)
        self._ap["segm"].add(image_id, masks)
        self._mistakes["bbox"].add(image_id, boxes)
        self._mistakes["segm"].add(image_id, masks, boxes.ious)
        self._sightings.add(image_id, boxes, masks.ious)
        self._results.add(image_id, results)

    def finish(self, latency: dict[str, Percentiles]) -> Evaluation:
        """The evaluation, with the times of the model."""
        return Evaluation(
            box_result=self._ap["bbox"].result(),
            mask_result=self._ap["segm"].result(),
            box_costs=self._mistakes["bbox"].costs(),
            mask_costs=self._mistakes["segm"].costs(),
            sightings=self._sightings.result(),
            categories={c: self._data.categories[c] for c in self._categories},
            latency=latency,
            image_ids=tuple(self._results),
            results=self._results,
        )


def evaluate(runtime: Any, data: CocoData, *, limit: int | None = None, progress: Progress = silent) -> Evaluation:
    """Measure a runtime's AP on a data set.

    Args:
        runtime: Object with a `card` and `infer((H, W, 3) uint8 RGB) -> Detections`.
        data: Images and annotations.
        limit: Evaluate at most this many images.
        progress: Called after each image.

    Raises:
        DataError: If model and data set have no class in common, or an image differs in size from its annotation.
        ImageError: If an image cannot be decoded.
    """
    images = data.images[:limit]
    categories = match_categories(runtime.card, data.categories)
    evaluator = Evaluator(data, list(categories.values()))
    times: list[dict[str, float]] = []
    for done, image in enumerate(images, start=1):
        detections = runtime.infer(read_sized(image))
        times.append(detections.speed_ms)
        results = _in_data_ids(detections.to_coco(image.id), categories)
        evaluator.add(image.id, results)
        progress("images", done, len(images))
    return evaluator.finish(summarize_latency(times))


def match_categories(card: ModelCard, categories: dict[int, str]) -> dict[int, int]:
    """The data set's category for each class of the model.

    An equal id with an equal name is a match, or else an equal name alone. An equal id alone is not: category 1 is a
    person in one data set and a balloon in another.

    Args:
        card: The model's classes and category ids.
        categories: Category id -> name in the data set.

    Returns:
        The model's category id -> the data set's, for the classes in common.

    Raises:
        DataError: If there is no such class.
    """
    by_name = {plain_class_name(name): category for category, name in categories.items()}
    pairs: dict[int, int] = {}
    for category, class_name in zip(card.category_ids, card.classes, strict=True):
        name = plain_class_name(class_name)
        if plain_class_name(categories.get(category, "")) == name:
            pairs[category] = category
        elif name in by_name:
            pairs[category] = by_name[name]
    if not pairs:
        known, asked = _listed(card.classes), _listed(list(categories.values()))
        raise DataError(
            f"the model has {known}, the data set {asked}, with no class in common; evaluate on data with the model's "
            "classes, or rename the categories"
        )
    return pairs


def read_sized(image: CocoImage) -> np.ndarray:
    """Read an image and check that its size is that of its annotation.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: If the file's size differs from the annotation.
    """
    pixels = read_image(image.path)
    if pixels.shape[:2] != (image.height, image.width):
        height, width = pixels.shape[:2]
        raise DataError(
            f"{image.path}: the annotation says {image.width} x {image.height}, the file has {width} x {height} pixels"
        )
    return pixels


def _in_data_ids(results: list[Result], categories: dict[int, int]) -> list[Result]:
    """Results of the common classes, with the data set's category ids."""
    kept = []
    for result in results:
        category = categories.get(result["category_id"])
        if category is not None:
            kept.append({**result, "category_id": category})
    return kept


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    more = ", ..." if len(names) > 8 else ""
    return f"{{{shown}{more}}}"

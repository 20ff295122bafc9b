"""Accuracy of one runtime on one data set: images in, COCO's numbers out.

Images stream through one by one; only run-length encoded results are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.measure.latency import Percentiles, Progress, summarize_latency
from edge_mrcnn.report.metrics import ApResult, ApSummary, IouType, measure_ap
from runtimes.errors import DataError
from runtimes.model_card import ModelCard
from runtimes.preprocess import read_image

IOU_TYPES: tuple[IouType, IouType] = ("bbox", "segm")


@dataclass(frozen=True)
class Evaluation:
    """What one runtime reached on one data set."""

    box_result: ApResult = field(repr=False)
    mask_result: ApResult = field(repr=False)
    categories: dict[int, str]
    """The data set's categories that the model knows, and that were evaluated."""
    latency: dict[str, Percentiles]
    """Stage to time: "preprocess", "inference", "postprocess" and their sum, "total"."""
    image_ids: tuple[int, ...]
    """The images that were evaluated, in the data set's order."""
    results: list[dict[str, Any]] = field(repr=False)
    """COCO results with the data set's category ids, boxes and compressed masks."""

    @property
    def box(self) -> ApSummary:
        """COCO's numbers for boxes."""
        return self.box_result.summary

    @property
    def mask(self) -> ApSummary:
        """COCO's numbers for masks."""
        return self.mask_result.summary

    @property
    def box_per_class(self) -> dict[int, float]:
        """Box AP of each evaluated category id; nan where the data set shows none."""
        return self.box_result.per_class

    @property
    def mask_per_class(self) -> dict[int, float]:
        """Mask AP of each evaluated category id; nan where the data set shows none."""
        return self.mask_result.per_class

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.image_ids)


def evaluate(runtime: Any, data: CocoData, *, limit: int | None = None, progress: Progress | None = None) -> Evaluation:
    """Measure a runtime's AP on a data set.

    Args:
        runtime: Anything with a `card` and `infer((H, W, 3) uint8 RGB) -> Detections`.
        data: Images and annotations.
        limit: Evaluate the first so many images only.
        progress: Told after each image.

    Raises:
        DataError: If model and data set share no class, or an image is not as large as its annotation says.
        ImageError: If an image cannot be decoded.
    """
    images = data.images[:limit]
    categories = match_categories(runtime.card, data.categories)
    results: list[dict[str, Any]] = []
    times: list[dict[str, float]] = []
    for done, image in enumerate(images, start=1):
        detections = runtime.infer(read_sized(image))
        times.append(detections.speed_ms)
        results += _in_data_ids(detections.to_coco(image.id), categories)
        if progress is not None:
            progress(done, len(images))
    wanted = sorted(set(categories.values()))
    truth = ground_truth(data, images)
    box, mask = (measure_ap(truth, results, iou_type, category_ids=wanted) for iou_type in IOU_TYPES)
    return Evaluation(
        box_result=box,
        mask_result=mask,
        categories={c: data.categories[c] for c in wanted},
        latency=summarize_latency(times),
        image_ids=tuple(image.id for image in images),
        results=results,
    )


def match_categories(card: ModelCard, categories: dict[int, str]) -> dict[int, int]:
    """Which of the data set's categories each of the model's classes is.

    An equal id with an equal name is a match, then an equal name alone. An id alone is none: category 1 is a person
    in one data set and a balloon in the next.

    Args:
        card: The model's classes and category ids.
        categories: The data set's id to name.

    Returns:
        The model's category id to the data set's, for the classes that both know.

    Raises:
        DataError: If there is no such class.
    """
    by_name = {_plain(name): category for category, name in categories.items()}
    pairs: dict[int, int] = {}
    for category, name in zip(card.category_ids, card.classes, strict=True):
        if _plain(categories.get(category, "")) == _plain(name):
            pairs[category] = category
        elif _plain(name) in by_name:
            pairs[category] = by_name[_plain(name)]
    if not pairs:
        raise DataError(
            f"the model knows {_listed(card.classes)}, the data set {_listed(list(categories.values()))}: "
            "no class is common; evaluate on data with the model's classes, or rename the categories"
        )
    return pairs


def ground_truth(data: CocoData, images: Sequence[CocoImage]) -> dict[str, Any]:
    """The data set as one COCO record, restricted to some images and numbered from 1."""
    annotations = [annotation for image in images for annotation in data.annotations(image.id)]
    return {
        "images": [{"id": i.id, "width": i.width, "height": i.height} for i in images],
        # pycocotools takes id 0 for "not matched"
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": c, "name": name} for c, name in data.categories.items()],
    }


def read_sized(image: CocoImage) -> np.ndarray:
    """Read an image and check that its annotation speaks of the same pixels.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: If the file's size is not the annotated one.
    """
    pixels = read_image(image.path)
    if pixels.shape[:2] != (image.height, image.width):
        height, width = pixels.shape[:2]
        raise DataError(
            f"{image.path}: the annotation says {image.width} x {image.height}, the file has {width} x {height} pixels"
        )
    return pixels


def _in_data_ids(results: list[dict[str, Any]], categories: dict[int, int]) -> list[dict[str, Any]]:
    return [{**r, "category_id": categories[r["category_id"]]} for r in results if r["category_id"] in categories]


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ").replace("-", " ")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{{{shown}{', ...' if len(names) > 8 else ''}}}"

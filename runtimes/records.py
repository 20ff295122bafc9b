"""Detections as records for JSON: the rows of one image as dictionaries."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.masks import Masks

Array = NDArray[Any]


class Rows(Protocol):
    """What a record needs of `runtimes.types.Detections`, which writes its records by this module."""

    @property
    def boxes_xyxy(self) -> Array:
        """(N, 4) float32, x0 y0 x1 y1 in pixels of the image."""

    @property
    def scores(self) -> Array:
        """(N,) float32 in [0, 1]."""

    @property
    def labels(self) -> Array:
        """(N,) int64, 0-based index into `names`."""

    @property
    def ids(self) -> Array | None:
        """(N,) int64 numbers of a tracker, -1 for none yet."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names."""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data set's own category id of each class."""

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""

    @property
    def masks(self) -> Masks:
        """The masks in the image."""


def list_coco_results(found: Rows, image_id: int | str) -> list[dict[str, Any]]:
    """See `Detections.to_coco`."""
    x0, y0, x1, y1 = found.boxes_xyxy.astype(np.float64).T
    boxes_xywh = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1).round(3).tolist()
    labels, scores, encoded = found.labels.tolist(), found.scores.tolist(), found.masks.rle
    records = []
    for row, measured in enumerate(measure(found)):
        record = {
            "image_id": image_id,
            "category_id": found.category_ids[labels[row]],
            "category_name": found.names[labels[row]],
            "bbox": boxes_xywh[row],
            "score": round(scores[row], 6),
            "segmentation": encoded[row],
        }
        records.append(record | measured | track_id(found, row))
    return records


def measure(found: Rows) -> list[dict[str, Any]]:
    """Of each mask its `area` in pixels, its `area_share` of the image and its `centroid`, x y in pixels."""
    areas = found.masks.areas.round(2).tolist()
    shares = found.masks.area_shares.round(6).tolist()
    centroids = found.masks.centroids.round(2).tolist()
    rows = zip(areas, shares, centroids, strict=True)
    return [{"area": area, "area_share": share, "centroid": centroid} for area, share, centroid in rows]


def track_id(found: Rows, row: int) -> dict[str, int]:
    """The tracker's number of a row under its name; empty where it has none."""
    number = -1 if found.ids is None else int(found.ids[row])
    return {"track_id": number} if number >= 0 else {}

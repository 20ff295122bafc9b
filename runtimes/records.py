"""Detections as records for JSON: one dictionary per object of an image."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import MissingExtraError
from runtimes.masks import Masks

Array = NDArray[Any]


class ResultRows(Protocol):
    """The attributes of `runtimes.types.Detections` that records need; the class writes its records with this
    module."""

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
        """(N,) int64 track numbers."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names."""

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The data set's category id of each class."""

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""

    @property
    def masks(self) -> Masks:
        """The masks in the image."""


def list_coco_results(found: ResultRows, image_id: int | str) -> list[dict[str, Any]]:
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


def summarize(found: ResultRows, *, normalize: bool, decimals: int) -> list[dict[str, Any]]:
    """See `Detections.summary`."""
    height, width = found.image_size_hw
    size_xy = np.array([width, height] if normalize else [1, 1])
    boxes = (found.boxes_xyxy / np.tile(size_xy, 2)).round(decimals).tolist()
    labels, scores, measures = found.labels.tolist(), found.scores.tolist(), measure(found)
    records = []
    for row, outline in enumerate(found.masks.xy):
        x, y = (outline / size_xy).round(decimals).T.tolist()
        record = {
            "name": found.names[labels[row]],
            "class": labels[row],
            "confidence": round(scores[row], decimals),
            "box": dict(zip(("x1", "y1", "x2", "y2"), boxes[row], strict=True)),
            "segments": {"x": x, "y": y},
        }
        records.append(record | measures[row] | track_id(found, row))
    return records


def convert_to_supervision(found: ResultRows, *, compact: bool) -> Any:
    """See `Detections.to_supervision`."""
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"to_supervision needs {error.name}: pip install supervision") from error
    names = [found.names[label] for label in found.labels.tolist()]
    has_compact = hasattr(supervision, "CompactMask")  # supervision 0.28 or newer
    masks = _compact(found.masks, supervision.CompactMask) if compact and has_compact else found.masks.data
    return supervision.Detections(
        xyxy=found.boxes_xyxy,
        confidence=found.scores,
        class_id=found.labels,
        mask=masks,
        tracker_id=found.ids,
        data={"class_name": np.array(names, dtype=object)},
    )


def _compact(masks: Masks, kind: Any) -> Any:
    """Masks as one `supervision.CompactMask`, whose class is `kind`, without dense arrays."""
    height, width = masks.image_size_hw
    parts = [kind.from_dense(np.zeros((0, height, width), bool), np.zeros((0, 4)), (height, width))]
    for x, y, mask in masks.regions:
        pixels = mask if mask.size else np.zeros((1, 1), bool)
        rows, columns = pixels.shape
        # supervision's boxes include their last pixel, so the corner is one pixel less.
        part = kind.from_dense(pixels[None], np.array([[0, 0, columns - 1, rows - 1]]), (rows, columns))
        parts.append(part.with_offset(min(x, width - 1), min(y, height - 1), (height, width)))
    return kind.merge(parts)


def measure(found: ResultRows) -> list[dict[str, Any]]:
    """Of each mask its `area` in pixels, its `area_share` of the image and its `centroid`, x y in pixels."""
    areas = found.masks.areas.round(2).tolist()
    shares = found.masks.area_shares.round(6).tolist()
    centroids = found.masks.centroids.round(2).tolist()
    rows = zip(areas, shares, centroids, strict=True)
    return [{"area": area, "area_share": share, "centroid": centroid} for area, share, centroid in rows]


def track_id(found: ResultRows, row: int) -> dict[str, int]:
    """The track number of a row; empty if it has none."""
    number = -1 if found.ids is None else int(found.ids[row])
    return {"track_id": number} if number >= 0 else {}

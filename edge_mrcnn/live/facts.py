"""Facts about single objects for messages: class, score, position and area."""

from __future__ import annotations

from typing import Any

from runtimes import Detections
from runtimes.records import measure, track_id


def describe_objects(found: Detections, pixel_mm: float | None = None) -> list[dict[str, Any]]:
    """The objects of a frame, ready for JSON.

    Args:
        found: The objects.
        pixel_mm: Side of a pixel in millimetres, in the plane of the objects; None if it is not known.

    Returns:
        For each its `class`, `score`, `bbox` (x y w h in pixels), `area` (pixels), `area_share` (of the picture) and
        `centroid` (x y in pixels); `area_mm2` where the size of a pixel is known, `track_id` where a tracker gave one.
    """
    records = []
    scores, labels = found.scores.tolist(), found.labels.tolist()
    for row, measured in enumerate(measure(found)):
        x0, y0, x1, y1 = found.boxes_xyxy[row].tolist()
        box_xywh = [round(value, 1) for value in (x0, y0, x1 - x0, y1 - y0)]
        record = {"class": found.names[labels[row]], "score": round(scores[row], 3), "bbox": box_xywh}
        records.append(record | measured | real_area(measured, pixel_mm) | track_id(found, row))
    return records


def real_area(record: dict[str, Any], pixel_mm: float | None) -> dict[str, float]:
    """The `area` of a record in square millimetres, to four digits; empty where the size of a pixel is not known."""
    return {} if pixel_mm is None else {"area_mm2": float(f"{record['area'] * pixel_mm**2:.4g}")}

"""Drawing of COCO annotations and results on an image: masks, outlines, boxes and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from edge_mrcnn.data.augment import fit_mask
from edge_mrcnn.evaluation.image_results import Result
from runtimes.draw import FONT, Color, Rect, Style, draw_polygons, fill_polygons, is_free, to_polygons
from runtimes.postprocess import Region, find_contours

FONT_SCALE = 0.45
JPEG_QUALITY = 84
INK: Color = (16, 18, 24)
"""Colour of labels, which are drawn on the object's colour."""


def label_of(thing: Result, categories: Mapping[int, str]) -> str:
    """Class, if there are several, and score, if there is one."""
    name = categories[thing["category_id"]] if len(categories) > 1 else ""
    if "score" not in thing:
        return name
    return f"{name} {thing['score']:.2f}".strip()


def draw_objects(
    canvas: np.ndarray, objects: Sequence[Result], colors: Sequence[Color], scale: float, labels: Sequence[str]
) -> np.ndarray:
    """Draw masks, contours, boxes and labels, the object with the highest score on top.

    Args:
        canvas: (h, w, 3) uint8 RGB, changed in place.
        objects: COCO records in pixels of the full image, best first.
        colors: RGB of each.
        scale: Canvas pixels per pixel of the full image.
        labels: Label of each object. Empty labels, and labels that would cover those of a better object, are not drawn.

    Returns:
        The canvas.
    """
    style = Style.for_size(*canvas.shape[:2])
    regions = [_shrink_mask(thing, canvas.shape[:2]) for thing in objects]
    contours = to_polygons([find_contours(region) for region in regions])
    boxes = [np.array(thing["bbox"]) * scale for thing in objects]
    worst_first = range(len(objects) - 1, -1, -1)
    for index in worst_first:
        fill_polygons(canvas, contours[index], colors[index])
    for index in worst_first:
        draw_polygons(canvas, contours[index], colors[index], style)
        _draw_box(canvas, boxes[index], colors[index])
    taken: list[Rect] = []
    for box, color, label in zip(boxes, colors, labels, strict=True):
        if label:
            corner = (round(box[0]), round(box[1]))
            _draw_label(canvas, label, corner, color, taken)
    return canvas


def _shrink_mask(thing: Result, size_hw: tuple[int, int]) -> Region:
    """The mask at the canvas's size, as a region of the whole canvas; empty for an object with only a box."""
    if thing["segmentation"] is None:
        return Region(0, 0, np.zeros(size_hw, bool))
    return Region(0, 0, fit_mask(thing["segmentation"], size_hw) > 0)


def _draw_box(canvas: np.ndarray, box_xywh: np.ndarray, color: Color) -> None:
    x, y, width, height = box_xywh
    top_left = (round(x), round(y))
    bottom_right = (round(x + width), round(y + height))
    cv2.rectangle(canvas, top_left, bottom_right, color, 1)


def _draw_label(canvas: np.ndarray, text: str, corner_xy: tuple[int, int], color: Color, taken: list[Rect]) -> None:
    """Dark text on the object's colour, above its box if there is room, unless it would cover one of `taken`."""
    (width, height), baseline = cv2.getTextSize(text, FONT, FONT_SCALE, 1)
    most_right = max(canvas.shape[1] - width - 4, 0)
    left = min(max(corner_xy[0], 0), most_right)
    bottom = max(corner_xy[1], height + baseline)
    plate = Rect(left, bottom - height - baseline, left + width + 4, bottom)
    if not is_free(plate, taken):
        return
    taken.append(plate)
    cv2.rectangle(canvas, (plate.left, plate.top), (plate.right, plate.bottom), color, cv2.FILLED)
    cv2.putText(canvas, text, (left + 2, bottom - baseline), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)


def encode_jpeg(image: np.ndarray) -> bytes:
    """(h, w, 3) uint8 RGB as a JPEG file."""
    bgr = image[..., ::-1]
    _, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return data.tobytes()

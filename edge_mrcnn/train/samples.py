"""Detections on a few validation images beside the ground truth: one contact sheet per evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.evaluation.agreement import confident
from edge_mrcnn.evaluation.evaluate import match_categories, read_sized
from edge_mrcnn.evaluation.overlay import draw_objects, encode_jpeg, label_of
from runtimes.draw import PALETTE

CELL_WH = (288, 216)
"""Width and height of one image on the sheet, in pixels."""
COLUMNS = 2
"""Number of pairs per row."""
BACKGROUND = 24


def draw_samples(runtime: Any, data: CocoData, path: Path, *, count: int = 6) -> None:
    """Write pairs of annotated and detected objects, for images at even steps through those with objects.

    Args:
        runtime: Object with a `card` and `infer`.
        data: Validation images.
        path: JPEG to write; its folder is made.
        count: Maximum number of images.
    """
    with_objects = [image for image in data.images if data.annotations(image.id)]
    shown = with_objects or list(data.images)
    steps = np.linspace(0, len(shown) - 1, min(count, len(shown))).round().astype(int)
    categories = match_categories(runtime.card, data.categories)
    pairs = [draw_pair(runtime, data, shown[step], categories) for step in steps]
    blank = np.full_like(pairs[0], BACKGROUND)
    pairs += [blank] * (-len(pairs) % COLUMNS)  # fill the last row
    rows = []
    for start in range(0, len(pairs), COLUMNS):
        rows.append(np.hstack(pairs[start : start + COLUMNS]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(np.vstack(rows)))


def draw_pair(runtime: Any, data: CocoData, image: CocoImage, categories: dict[int, int]) -> np.ndarray:
    """One image twice, (h, 2 w, 3) uint8 RGB: on the left its annotations, on the right the detections."""
    pixels = read_sized(image)
    found = []
    for result in confident(runtime.infer(pixels).to_coco(image.id)):
        category = categories.get(result["category_id"])
        if category is not None:
            found.append({**result, "category_id": category})
    truth = [annotation for annotation in data.annotations(image.id) if not annotation["iscrowd"]]
    return np.hstack([draw_cell(pixels, truth, data), draw_cell(pixels, found, data)])


def draw_cell(pixels: np.ndarray, things: list[dict[str, Any]], data: CocoData) -> np.ndarray:
    """An image with COCO records drawn, centred on a dark cell."""
    cell_width, cell_height = CELL_WH
    height, width = pixels.shape[:2]
    scale = min((cell_width - 4) / width, (cell_height - 4) / height)
    shown_width = max(1, round(width * scale))
    shown_height = max(1, round(height * scale))
    canvas = cv2.resize(pixels, (shown_width, shown_height), interpolation=cv2.INTER_AREA)

    order = list(data.categories)
    colors, labels = [], []
    for index, thing in enumerate(things):
        # One colour per class, or per object if there is only one class.
        key = order.index(thing["category_id"]) if len(order) > 1 else index
        colors.append(PALETTE[key % len(PALETTE)])
        labels.append(label_of(thing, data.categories))
    draw_objects(canvas, things, colors, scale, labels)

    cell = np.full((cell_height, cell_width, 3), BACKGROUND, np.uint8)
    top = (cell_height - shown_height) // 2
    left = (cell_width - shown_width) // 2
    cell[top : top + shown_height, left : left + shown_width] = canvas
    return cell

"""A data set of painted rectangles, each of one colour an object, and a perfect detector for them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from runtimes import FakeRuntime, ModelCard, RawOutputs
from runtimes.model_card import ModelCard as Card

HEIGHT, WIDTH, SIDE = 64, 96, 14
CATEGORIES = {3: "cat", 9: "dog"}
OBJECTS = {  # image id -> (category id, x, y, w, h) of each object
    11: [(3, 4, 4, 40, 40), (9, 50, 10, 40, 40)],
    12: [(3, 10, 8, 50, 50)],
    13: [],
    14: [(9, 2, 2, 44, 50), (9, 50, 4, 40, 44), (3, 60, 52, 10, 10)],
}


def make_card(classes: tuple[str, ...] = ("cat", "dog"), ids: tuple[int, ...] = (3, 9), **changes: object) -> Card:
    settings = dict(
        name="painted", classes=classes, category_ids=ids, input_size_hw=(HEIGHT, WIDTH), pad_rgb=(0, 0, 0),
        proposals=8, max_detections=8, mask_size=SIDE, mask_offset=0.0, score_threshold=0.05,
        iou_threshold=0.5, target="onnx",
    )  # fmt: skip
    return ModelCard(**{**settings, **changes})


def find_painted(x: np.ndarray, shift: float = 0.0, keep: int = 8) -> RawOutputs:
    """A perfect detector of rectangles: the red value gives the class; `shift` moves each box to the right."""
    image = x[0]
    colours = [c for c in np.unique(image.reshape(-1, 3), axis=0) if c.any()][:keep]
    places = [np.nonzero((image == colour).all(axis=2)) for colour in colours]
    boxes = [(c.min() + shift, r.min(), c.max() + 1 + shift, r.max() + 1) for r, c in places]
    count = len(colours)
    return RawOutputs(
        np.array(boxes, np.float32).reshape(count, 4),
        np.linspace(0.95, 0.8, count, dtype=np.float32) - 1e-3 * image.mean(),  # no two images tie
        np.array([int(colour[0] == 200) for colour in colours], np.int64),
        np.ones((count, SIDE, SIDE), np.float32),
    )


def make_runtime(shift: float = 0.0, keep: int = 8, **card: object) -> FakeRuntime:
    return FakeRuntime(make_card(**card), lambda x: find_painted(x, shift, keep))


def write_painted(root: Path) -> None:
    """A COCO data set: images in `images/val`, annotations beside them."""
    (root / "images" / "val").mkdir(parents=True)
    (root / "annotations").mkdir()
    annotations = []
    for image_id, objects in OBJECTS.items():
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for number, (category, x, y, w, h) in enumerate(objects):
            image[y : y + h, x : x + w] = (200 if category == 9 else 100, 50 + 20 * number, 30)
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {"id": len(annotations), "image_id": image_id, "category_id": category, "segmentation": [polygon],
                 "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            )  # fmt: skip
        cv2.imwrite(str(root / "images" / "val" / f"{image_id}.png"), image[..., ::-1])
    record = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in OBJECTS],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(record))

"""Predictions as a COCO data set, for correction in a labelling tool and for training.

The folder has the layout of CVAT's "COCO 1.0": `annotations/instances_default.json` and `images/default/`. Each
annotation has its `score`, which CVAT and datumaro read as an attribute. Label Studio's converter reads only polygons.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mrcnn.data.orientation import read_orientation
from runtimes import Detections
from runtimes.pictures import write_image

Array = NDArray[Any]

SPLIT = "default"
TOLERANCE_PX = 0.5
"""Maximum distance of a polygon from the outline, in pixels: polygons with fewer corners are easier to edit."""
SPECK = 0.02
"""Parts of an object below this share of its largest part are left out, because each would have to be deleted by
hand."""


class Collection:
    """A data set that is written image by image."""

    def __init__(
        self, folder: Path, names: tuple[str, ...], category_ids: tuple[int, ...], *, with_rle: bool = False
    ) -> None:
        """Prepare it; nothing is written yet.

        Args:
            folder: Output folder, new or empty.
            names: Class names.
            category_ids: Category ids of the classes.
            with_rle: Whether masks are RLE, which keeps holes, instead of polygons.
        """
        self.path = folder / "annotations" / f"instances_{SPLIT}.json"
        self._images_folder = folder / "images" / SPLIT
        self._with_rle = with_rle
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories = [
            {"id": number, "name": name, "supercategory": ""} for number, name in zip(category_ids, names, strict=True)
        ]

    def add(self, name: str, image: Array, found: Detections, *, original: Path | None = None) -> None:
        """Add an image and its detections.

        Args:
            name: File name, below the folder of images, with forward slashes.
            image: (H, W, 3) uint8 RGB.
            found: The detections above the score threshold.
            original: Original file, which is copied unless its EXIF orientation rotates it; None to write `image`.
        """
        number = len(self._images) + 1
        target = self._images_folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if original is not None and is_upright(original):
            shutil.copyfile(original, target)
        else:
            write_image(target, image)
        height, width = image.shape[:2]
        self._images.append({"id": number, "file_name": name, "width": width, "height": height})
        for record, rings in zip(found.to_coco(number), found.masks.contours, strict=True):
            self._annotations.append(self._annotate(record, rings))

    def write(self) -> None:
        """Write the annotations of all pictures."""
        record = {
            "info": {"description": "predictions of a model, to be corrected"},
            "licenses": [],
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._categories,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._images_folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")

    @property
    def counts(self) -> tuple[int, int]:
        """Number of images and objects so far."""
        return len(self._images), len(self._annotations)

    def _annotate(self, record: dict[str, Any], rings: list[Array]) -> dict[str, Any]:
        """COCO's annotation of a record of COCO results."""
        return {
            "id": len(self._annotations) + 1,
            "image_id": record["image_id"],
            "category_id": record["category_id"],
            "bbox": record["bbox"],
            "area": record["area"],
            "segmentation": record["segmentation"] if self._with_rle else to_coco_polygons(rings),
            "iscrowd": 0,
            "score": record["score"],
        }


def is_upright(path: Path) -> bool:
    """Whether the pixels of a file need no EXIF rotation: not every labelling tool applies it."""
    with path.open("rb") as file:
        return read_orientation(file) == 1


def to_coco_polygons(rings: list[Array]) -> list[list[float]]:
    """The parts of a mask as COCO polygons: x y x y ... in pixels, without holes and specks.

    Args:
        rings: Closed rings from `Masks.contours`, holes in the opposite direction.
    """
    areas = [cv2.contourArea(ring, oriented=True) for ring in rings]  # negative for holes
    smallest = SPECK * max(areas, default=0.0)
    polygons = []
    for ring, area in zip(rings, areas, strict=True):
        corners = cv2.approxPolyDP(ring, TOLERANCE_PX, True)[:, 0]
        if area > smallest and len(corners) > 2:
            polygons.append(np.round(corners.astype(float), 2).ravel().tolist())
    return polygons

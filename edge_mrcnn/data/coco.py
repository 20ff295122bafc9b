"""A data set in memory: images, categories, and objects in COCO's terms; without torch.

Source of the terms: https://cocodataset.org/#format-data. `load` reads it from any layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

Annotation = dict[str, Any]


@dataclass(frozen=True)
class CocoImage:
    """One image of a data set."""

    id: int
    """The data set's image id."""
    path: Path
    """Expected path of the file; it is not opened here."""
    width: int
    """Width in pixels, from the annotation."""
    height: int
    """Height in pixels, from the annotation."""


@dataclass(frozen=True)
class CocoData:
    """One split of a data set."""

    path: Path
    """The annotation file, or the folder if there is none."""
    images: tuple[CocoImage, ...]
    """All images, also those without objects, in file order."""
    categories: dict[int, str]
    """Category id -> name, in ascending order of id; ids may have gaps."""
    by_image: dict[int, list[Annotation]] = field(repr=False)
    """Objects of each image; images without objects are absent. Without an outline, `segmentation` is None."""
    dropped: int = 0
    """Number of annotations that were left out because no pixel of their outline is visible."""
    layout: str = "COCO JSON"
    """Its layout in files, in words."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Category names, ordered by id; labels index this list."""
        return tuple(self.categories.values())

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Category ids, ordered; the id of label i is `category_ids[i]`."""
        return tuple(self.categories)

    def objects(self, image_id: int) -> list[Annotation]:
        """Objects of one image, also those with only a box: their `segmentation` is None."""
        return self.by_image.get(image_id, [])

    def annotations(self, image_id: int) -> list[Annotation]:
        """Outlined objects of one image: compressed RLE, xywh box and area in pixels, iscrowd, category_id."""
        return [a for a in self.objects(image_id) if a["segmentation"] is not None]

    def count_objects(self) -> dict[int, int]:
        """Category id -> number of objects, with or without outline; without crowds."""
        counts = dict.fromkeys(self.categories, 0)
        for objects in self.by_image.values():
            for annotation in objects:
                counts[annotation["category_id"]] += not annotation["iscrowd"]
        return counts

    def count_boxes(self) -> int:
        """Number of objects with only a box, without crowds."""
        alone = 0
        for objects in self.by_image.values():
            alone += sum(a["segmentation"] is None and not a["iscrowd"] for a in objects)
        return alone

    def front(self, limit: int) -> CocoData:
        """The same data, limited to the first `limit` images; these include images with objects if there are any."""
        if any(self.annotations(image.id) for image in self.images[:limit]):
            return self
        with_objects = [image for image in self.images if self.annotations(image.id)]
        others = [image for image in self.images if not self.annotations(image.id)]
        return replace(self, images=(*with_objects, *others))


def decode_mask(annotation: Annotation) -> np.ndarray:
    """The (H, W) uint8 mask of an outlined object, 1 inside."""
    from pycocotools import mask as rle

    mask: np.ndarray = rle.decode(annotation["segmentation"])
    return mask

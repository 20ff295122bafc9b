"""A data set as everything here knows it: images, categories, and objects in COCO's terms; without torch.

Source of the terms: https://cocodataset.org/#format-data. `load` reads them from any layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

Annotation = dict[str, Any]


@dataclass(frozen=True)
class CocoImage:
    """One picture of a data set."""

    id: int
    """The data set's own image id."""
    path: Path
    """Where the file should lie; it is not opened here."""
    width: int
    """Width in pixels, as the annotation states it."""
    height: int
    """Height in pixels, as the annotation states it."""


@dataclass(frozen=True)
class CocoData:
    """One split of a data set."""

    path: Path
    """The annotation file, or the folder where there is none."""
    images: tuple[CocoImage, ...]
    """All images, those without objects included, in file order."""
    categories: dict[int, str]
    """Category id to name, in ascending order of id; ids may be sparse."""
    by_image: dict[int, list[Annotation]] = field(repr=False)
    """Objects of each image; images without objects are absent. Without an outline, `segmentation` is None."""
    dropped: int = 0
    """Annotations left out because nothing of their outline is visible."""
    layout: str = "COCO JSON"
    """How it lay in its files, in words."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Category names, ordered by id; a label indexes this."""
        return tuple(self.categories.values())

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Category ids, ordered; the id of label i is `category_ids[i]`."""
        return tuple(self.categories)

    def objects(self, image_id: int) -> list[Annotation]:
        """Objects of one image, with those that have a box and no outline: their `segmentation` is None."""
        return self.by_image.get(image_id, [])

    def annotations(self, image_id: int) -> list[Annotation]:
        """Outlined objects of one image: compressed RLE, xywh box and area in pixels, iscrowd, category_id."""
        return [a for a in self.objects(image_id) if a["segmentation"] is not None]

    def count_objects(self) -> dict[int, int]:
        """Category id to number of objects, outlined or not; crowds are none."""
        counts = dict.fromkeys(self.categories, 0)
        for objects in self.by_image.values():
            for annotation in objects:
                counts[annotation["category_id"]] += not annotation["iscrowd"]
        return counts

    def count_boxes(self) -> int:
        """Objects that have a box and no outline; crowds are none."""
        alone = 0
        for objects in self.by_image.values():
            alone += sum(a["segmentation"] is None and not a["iscrowd"] for a in objects)
        return alone

    def front(self, limit: int) -> CocoData:
        """The same data with objects in some of the first `limit` images, where it has any objects at all."""
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

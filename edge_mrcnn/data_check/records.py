"""What is wrong inside an annotation file, record by record; the pictures are not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_mrcnn.data.coco import Annotation, CocoImage, compress_outline, read_json
from edge_mrcnn.data_check.faults import Place
from edge_mrcnn.evaluation.coco_api import rle
from quantize.coco_folder import image_folder
from runtimes.errors import one_line

TOLERANCE_PX = 1.0
"""Boxes and outlines may leave the image by rounding."""
MIN_BOX_IOU = 0.5
"""A box that overlaps its outline's box less than this is not its box."""

Fault = tuple[str, Place]


@dataclass(frozen=True)
class Instance:
    """An object with a usable outline."""

    id: Any
    image_id: int
    category_id: int
    area: int
    """Pixels of its mask."""
    box_xywh: tuple[float, ...]
    """Of its mask, in pixels."""
    iscrowd: bool
    row: int
    """Its place in the file's list of annotations."""


@dataclass(frozen=True)
class Records:
    """An annotation file as far as it can be read."""

    split: str
    path: Path
    images: dict[int, CocoImage]
    categories: dict[int, str]
    instances: list[Instance]
    annotations: list[Annotation]
    """As they are in the file."""

    def place(self, image_id: int | None, object_id: Any = None, detail: str = "") -> Place:
        """A place in this split."""
        image = self.images.get(image_id) if image_id is not None else None
        return Place(self.split, image_id, image.path.name if image else "", object_id, detail)


def read_records(path: Path, split: str) -> tuple[Records, list[Fault]]:
    """Read an annotation file and note what is wrong with its records.

    Raises:
        DataError: If it is no COCO annotation file at all.
    """
    raw = read_json(path)
    faults: list[Fault] = []
    images = _read_images(raw["images"], image_folder(path), split, faults)
    categories = _read_categories(raw["categories"], split, faults)
    records = Records(split, path, images, categories, [], raw["annotations"])
    ids: set[Any] = set()
    seen: dict[tuple[Any, ...], Any] = {}
    for row, annotation in enumerate(raw["annotations"]):
        number = annotation.get("id", f"#{row + 1}") if isinstance(annotation, dict) else f"#{row + 1}"
        if isinstance(number, (int, str)) and number in ids:
            faults.append(("duplicate-object-id", records.place(_image_of(annotation), number)))
        ids.add(number if isinstance(number, (int, str)) else None)
        instance = _read_instance(records, annotation, number, row, faults)
        if instance is None:
            continue
        key = (instance.image_id, instance.category_id, instance.area, instance.box_xywh)
        if key in seen:
            place = records.place(instance.image_id, number, f"the same as object {seen[key]}")
            faults.append(("duplicate-object", place))
        seen.setdefault(key, number)
        records.instances.append(instance)
    return records, faults


def _read_images(raw: list[Any], folder: Path, split: str, faults: list[Fault]) -> dict[int, CocoImage]:
    images: dict[int, CocoImage] = {}
    for row, record in enumerate(raw, start=1):
        try:
            image = CocoImage(
                int(record["id"]), folder / record["file_name"], int(record["width"]), int(record["height"])
            )
        except (KeyError, TypeError, ValueError) as error:
            faults.append(("malformed-image", Place(split, f"#{row}", detail=_reason(error))))
            continue
        if image.id in images:
            faults.append(("duplicate-image-id", Place(split, image.id, image.path.name)))
        if image.width < 1 or image.height < 1:
            detail = f"{image.width} x {image.height} pixels"
            faults.append(("malformed-image", Place(split, image.id, image.path.name, detail=detail)))
            continue
        images.setdefault(image.id, image)
    return images


def _read_categories(raw: list[Any], split: str, faults: list[Fault]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for row, record in enumerate(raw, start=1):
        try:
            number, name = int(record["id"]), str(record["name"])
        except (KeyError, TypeError, ValueError) as error:
            faults.append(("malformed-category", Place(split, detail=f"#{row}: {_reason(error)}")))
            continue
        if number in categories:
            faults.append(("duplicate-category-id", Place(split, detail=f"{number}: {categories[number]} and {name}")))
        elif name in categories.values():
            faults.append(("duplicate-category-name", Place(split, detail=name)))
        categories.setdefault(number, name)
    return dict(sorted(categories.items()))


def _read_instance(records: Records, raw: Any, number: Any, row: int, faults: list[Fault]) -> Instance | None:
    """The object of one annotation, or None where it has none that can be learnt."""
    try:
        image_id, category_id = int(raw["image_id"]), int(raw["category_id"])
        box = None if raw.get("bbox") is None else tuple(map(float, raw["bbox"]))
        if box is not None and len(box) != 4:
            raise ValueError(f"its box has {len(box)} numbers")
        crowd = bool(int(raw.get("iscrowd", 0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        faults.append(("malformed-object", records.place(_image_of(raw), number, _reason(error))))
        return None
    if image_id not in records.images:
        faults.append(("unknown-image", Place(records.split, image_id, object_id=number)))
        return None
    if category_id not in records.categories:
        faults.append(("unknown-category", records.place(image_id, number, f"category {category_id}")))
        return None
    image = records.images[image_id]
    name, outline, detail = measure_outline(raw.get("segmentation"), (image.height, image.width))
    found = [(name, detail)] if name else []
    found += [(kind, text) for kind, text in _box_faults(box, outline, crowd, image)]
    found += [(kind, text) for kind, text in _polygon_faults(raw.get("segmentation"), image)] if outline else []
    faults += [(kind, records.place(image_id, number, text)) for kind, text in found]
    if outline is None:
        return None
    area, mask_box = outline
    return Instance(number, image_id, category_id, area, mask_box, crowd, row)


def measure_outline(
    segmentation: Any, size_hw: tuple[int, int]
) -> tuple[str, tuple[int, tuple[float, ...]] | None, str]:
    """The fault of an outline, if it has one that makes it useless, else its area and box.

    Args:
        segmentation: Polygons or RLE.
        size_hw: Of its image.

    Returns:
        The fault's name or "", (area in pixels, xywh box) or None, and a detail.
    """
    try:
        outline = compress_outline(segmentation, size_hw)
    except Exception as error:  # pycocotools raises whatever it meets
        return "malformed-object", None, _reason(error)
    if outline is None:
        return ("empty-outline" if segmentation else "no-outline"), None, ""
    area, box = int(rle.area(outline)), tuple(map(float, rle.toBbox(outline)))
    if not area or box[2] < 1 or box[3] < 1:
        return "empty-outline", None, ""
    return "", (area, box), ""


def _box_faults(
    box: tuple[float, ...] | None, outline: tuple[int, tuple[float, ...]] | None, crowd: bool, image: CocoImage
) -> Iterator[tuple[str, str]]:
    if box is None:
        return
    x, y, width, height = box
    text = f"box {x:g} {y:g} {width:g} {height:g} in {image.width} x {image.height}"
    if not (width > 0 and height > 0):
        yield "box-without-area", text
        return
    beyond = max(-x, -y, x + width - image.width, y + height - image.height)
    if beyond > TOLERANCE_PX:
        yield "box-outside", text
    elif outline and not crowd and float(rle.iou([list(box)], [list(outline[1])], [0])[0][0]) < MIN_BOX_IOU:
        yield (
            "box-off-outline",
            "box {:g} {:g} {:g} {:g}, outline's ".format(*box) + "{:g} {:g} {:g} {:g}".format(*outline[1]),
        )


def _polygon_faults(segmentation: Any, image: CocoImage) -> Iterator[tuple[str, str]]:
    if not isinstance(segmentation, list):
        return
    points = np.concatenate([np.asarray(p, float)[: len(p) // 2 * 2] for p in segmentation]).reshape(-1, 2)
    beyond = np.max([-points, points - (image.width, image.height)])
    if beyond > TOLERANCE_PX:
        yield "outline-outside", f"by {beyond:.0f} pixels"


def _image_of(raw: Any) -> int | None:
    image_id = raw.get("image_id") if isinstance(raw, dict) else None
    return image_id if isinstance(image_id, int) else None


def _reason(error: Exception) -> str:
    return f"it has no {error.args[0]}" if isinstance(error, KeyError) else one_line(error)

"""The records of a split, read by one set of rules; faults are noted.

`plausibility` checks all records together, and `files` checks the images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from edge_mrcnn.data.coco import Annotation, CocoData, CocoImage
from edge_mrcnn.data.faults import Place
from edge_mrcnn.data.files import read_shown_size
from edge_mrcnn.data.layouts import SplitSource
from edge_mrcnn.data.names import FileFinder
from edge_mrcnn.data.outlines import (
    BrokenOutlineError,
    Polygons,
    RunLengths,
    compress_polygons,
    compress_runs,
    is_number,
    understand_polygons,
)
from runtimes.errors import one_line

TOLERANCE_PX = 1.0
"""Boxes and outlines may extend outside the image by rounding."""
BROKEN = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""Exceptions that a malformed record can cause."""

Fault = tuple[str, Place]


@dataclass(frozen=True)
class Instance:
    """An object with a usable outline, or at least a usable box."""

    id: Any
    image_id: int
    category_id: int
    area: int
    """Pixels of its mask, or of its box if there is no outline."""
    box_xywh: tuple[float, ...]
    """Bounding box of its mask in pixels, or its annotated box if there is no outline."""
    iscrowd: bool
    row: int
    """Its position in the file's list of annotations."""
    annotation: Annotation = field(repr=False)
    """The annotation as `CocoData` has it."""

    @property
    def is_outlined(self) -> bool:
        """Whether it has an outline, and not only a box."""
        return self.annotation["segmentation"] is not None


@dataclass(frozen=True)
class Records:
    """The readable part of a split, and its faults."""

    split: str
    layout: str
    path: Path
    images: dict[int, CocoImage]
    categories: dict[int, str]
    instances: list[Instance]
    annotations: list[Annotation]
    """The annotations as in the file."""
    faults: list[Fault] = field(repr=False)

    def place(self, image_id: int | None, object_id: Any = None, detail: str = "") -> Place:
        """A place in this split."""
        image = self.images.get(image_id) if image_id is not None else None
        return Place(self.split, image_id, image.path.name if image else "", object_id, detail)

    @cached_property
    def by_row(self) -> dict[int, Instance]:
        """Row of an annotation -> its object; rows without a usable object are absent."""
        return {instance.row: instance for instance in self.instances}

    def note(self, name: str, image_id: int | None, object_id: Any = None, detail: str = "") -> None:
        """Record a fault."""
        self.faults.append((name, self.place(image_id, object_id, detail)))

    def to_data(self) -> CocoData:
        """The data set for training and evaluation."""
        by_image: dict[int, list[Annotation]] = {}
        for instance in self.instances:
            by_image.setdefault(instance.image_id, []).append(instance.annotation)
        dropped = len(self.annotations) - len(self.instances)
        images = tuple(self.images.values())
        return CocoData(self.path, images, self.categories, by_image, dropped, self.layout)


def read_records(source: SplitSource, split: str, *, learn_crowds: bool = False) -> Records:
    """Read a split and record the faults of its records.

    Args:
        source: Location, from its layout.
        split: Its name, for messages.
        learn_crowds: Treat crowd regions as single objects.

    Raises:
        DataError: If there are no records at all.
    """
    tables = source.read(source)
    faults: list[Fault] = []
    images = _read_images(tables["images"], FileFinder(source.folder, source.root), split, faults)
    categories = _read_categories(tables["categories"], split, faults)
    rows = tables["annotations"]
    images |= _swap_sizes(rows, images, split, faults)
    records = Records(split, source.title, source.path, images, categories, [], rows, faults)
    _read_instances(records, learn_crowds)
    return records


def _read_images(rows: list[Any], finder: FileFinder, split: str, faults: list[Fault]) -> dict[int, CocoImage]:
    images: dict[int, CocoImage] = {}
    for row, record in enumerate(rows, start=1):
        try:
            number, name = int(record["id"]), _text(record["file_name"])
            path, is_renamed = finder.find(name)
            size = _annotated_size(record)
        except BROKEN as error:
            faults.append(("malformed-image", Place(split, f"#{row}", detail=_reason(error))))
            continue
        if is_renamed:
            faults.append(("other-file-name", Place(split, number, name, detail=f"is {path}")))
        if size is None:
            size = read_shown_size(path)
            detail = "no width and height, and the file cannot be read" if size is None else ""
            faults.append(("no-size" if size else "malformed-image", Place(split, number, path.name, detail=detail)))
        if size is None:
            continue
        image = CocoImage(number, path, size[1], size[0])
        if number in images:
            is_same = images[number] == image
            faults.append(("repeated-image" if is_same else "duplicate-image-id", Place(split, number, path.name)))
        images.setdefault(number, image)
    return images


def _text(value: Any) -> str:
    """A file name; null means none."""
    if not isinstance(value, str):
        raise ValueError(f"its file_name is {value!r}, no text")
    return value


def _area_of(raw: Any) -> float:
    """The annotated area, 0 if it is not a number: then it is taken from the outline."""
    area = raw.get("area") or 0
    return float(area) if is_number(area) else 0.0


def _annotated_size(record: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width; None if they are not given, or are zero as some tools write them."""
    height, width = (int(record.get(key) or 0) for key in ("height", "width"))
    if height < 0 or width < 0:
        raise ValueError(f"{width} x {height} pixels")
    return (height, width) if height and width else None


def _read_categories(rows: list[Any], split: str, faults: list[Fault]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for row, record in enumerate(rows, start=1):
        try:
            number, name = int(record["id"]), str(record["name"]).strip()
        except BROKEN as error:
            faults.append(("malformed-category", Place(split, detail=f"#{row}: {_reason(error)}")))
            continue
        if number in categories and categories[number] != name:
            faults.append(("duplicate-category-id", Place(split, detail=f"{number}: {categories[number]} and {name}")))
        elif number not in categories and name in categories.values():
            faults.append(("duplicate-category-name", Place(split, detail=name)))
        categories.setdefault(number, name)
    return dict(sorted(categories.items()))


def _swap_sizes(rows: list[Any], images: dict[int, CocoImage], split: str, faults: list[Fault]) -> dict[int, CocoImage]:
    """Images whose width and height are those without EXIF rotation, while the outlines are those with it.

    The sign is an outline, or a box without one, that extends outside its image, but not with both sides exchanged; the
    file's orientation must confirm it. After one sign, all files of the split are checked, because some outlines fit
    both ways.
    """
    if not any(_fits_only_swapped(row, images) for row in rows):
        return {}
    swapped = {}
    for image in images.values():
        turned = (image.width, image.height)
        if image.width != image.height and read_shown_size(image.path) == turned:
            swapped[image.id] = replace(image, width=image.height, height=image.width)
            detail = f"{image.width} x {image.height}"
            faults.append(("swapped-size", Place(split, image.id, image.path.name, detail=detail)))
    return swapped


def _fits_only_swapped(row: Any, images: dict[int, CocoImage]) -> bool:
    try:
        image = images[int(row["image_id"])]
        segmentation = row.get("segmentation")
        if isinstance(segmentation, dict):
            size = tuple(segmentation["size"])
            return bool(size == (image.width, image.height) != (image.height, image.width))
        if image.width == image.height:
            return False
        right, bottom = _farthest_corner(segmentation, row.get("bbox"))
        is_outside = right > image.width + TOLERANCE_PX or bottom > image.height + TOLERANCE_PX
        return bool(is_outside and right <= image.height + TOLERANCE_PX and bottom <= image.width + TOLERANCE_PX)
    except BROKEN:  # lists of points, texts and other forms are handled later
        return False


def _farthest_corner(polygons: Any, box_xywh: Any) -> tuple[float, float]:
    """The largest x and y of an object: of its polygons, or of its box if it has none."""
    if not polygons:
        x, y, width, height = box_xywh
        return x + width, y + height
    right, bottom = (max(max(polygon[axis::2]) for polygon in polygons) for axis in (0, 1))
    return right, bottom


def _read_instances(records: Records, learn_crowds: bool) -> None:
    in_shares = are_shares(records.annotations)
    ids: set[Any] = set()
    for row, annotation in enumerate(records.annotations):
        number = annotation.get("id", f"#{row + 1}") if isinstance(annotation, dict) else f"#{row + 1}"
        if isinstance(number, (int, str)):
            if number in ids:
                records.note("duplicate-object-id", _image_of(annotation), number)
            ids.add(number)
        instance = _read_instance(records, annotation, number, row, learn_crowds, in_shares)
        if instance is not None:
            records.instances.append(instance)


def are_shares(rows: list[Any]) -> bool:
    """Whether most outlines have only coordinates in [0, 1], which in pixels would be empty."""
    outlines = shares = 0
    for row in rows:
        try:
            polygon = row["segmentation"][0]
            least, most = min(polygon), max(polygon)
        except (*BROKEN, IndexError):
            continue
        if isinstance(most, (int, float)) and isinstance(least, (int, float)):
            outlines += 1
            shares += least >= 0 and most <= 1
    return shares > outlines / 2


def _read_instance(
    records: Records, raw: Any, number: Any, row: int, learn_crowds: bool, in_shares: bool
) -> Instance | None:
    """The object of one annotation; None if it has none that can be used."""
    try:
        image_id, category_id = int(raw["image_id"]), int(raw["category_id"])
        box = _read_box(raw.get("bbox"))
        area = _area_of(raw)
        crowd = bool(int(raw.get("iscrowd") or 0)) and not learn_crowds
        object_id = int(raw.get("id") or 0) if is_number(raw.get("id") or 0) else 0
    except BROKEN as error:
        records.note("malformed-object", _image_of(raw), number, _reason(error))
        return None
    if image_id not in records.images:
        records.faults.append(("unknown-image", Place(records.split, image_id, object_id=number)))
        return None
    if category_id not in records.categories:
        records.note("unknown-category", image_id, number, f"category {category_id}")
        return None
    image = records.images[image_id]
    fault, outline, detail = _read_outline(records, raw.get("segmentation"), image, number, in_shares)
    if in_shares and box is not None and max(box) <= 1:
        box = tuple(value * side for value, side in zip(box, (image.width, image.height) * 2, strict=True))
    if box is not None and not _has_area(box, image):
        text = "box {:g} {:g} {:g} {:g}".format(*box)
        records.note("box-without-area", image_id, number, f"{text} in {image.width} x {image.height}")
        box = None
    if fault:
        records.note(fault, image_id, number, detail)
    if fault not in ("", "no-outline") or (outline is None and box is None):
        return None
    visible = box if outline is None else tuple(map(float, rle.toBbox(outline)))
    assert visible is not None
    pixels = round(visible[2] * visible[3]) if outline is None else int(rle.area(outline))
    annotation = {
        "id": object_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": outline,
        "bbox": list(box or visible),
        "area": area if math.isfinite(area) and area > 0 else float(pixels),
        "iscrowd": int(crowd),
    }
    return Instance(number, image_id, category_id, pixels, visible, crowd, row, annotation)


def _read_box(box: Any) -> tuple[float, ...] | None:
    if box is None or len(box) == 0:
        return None
    if len(box) != 4:
        raise ValueError(f"its box has {len(box)} numbers, expected 4")
    return tuple(float(value) if value is not None else np.nan for value in box)


def _has_area(box: tuple[float, ...], image: CocoImage) -> bool:
    """Whether a box is finite, has positive sides, and is near its image."""
    if not all(map(math.isfinite, box)):
        return False
    x, y, width, height = box
    reach = image.width + image.height
    is_near = -reach <= x <= 2 * reach and -reach <= y <= 2 * reach and width <= 2 * reach and height <= 2 * reach
    return width > 0 and height > 0 and is_near


def _read_outline(
    records: Records, segmentation: Any, image: CocoImage, number: Any, in_shares: bool
) -> tuple[str, RunLengths | None, str]:
    """The fault that makes an outline unusable or "", the outline or None, and a detail."""
    if not segmentation:
        return "no-outline", None, ""
    size = (image.height, image.width)
    polygons = None
    try:
        if isinstance(segmentation, dict):
            outline: RunLengths | None = compress_runs(segmentation, size)
        else:
            polygons = understand_polygons(segmentation, size, in_shares)
            outline = compress_polygons(polygons.corners, size)
    except BrokenOutlineError as error:
        return "broken-outline", None, str(error)
    except Exception as error:  # pycocotools raises many types of exceptions
        return "malformed-object", None, _reason(error)
    if outline is None:
        return "empty-outline", None, ""
    width, height = rle.toBbox(outline)[2:]
    if width < 1 or height < 1:
        return "empty-outline", None, ""
    if polygons is not None:
        _note_polygons(records, polygons, image, number)
    return "", outline, ""


def _note_polygons(records: Records, polygons: Polygons, image: CocoImage, number: Any) -> None:
    if not polygons.is_plain:
        records.note("unusual-outline", image.id, number)
    if polygons.is_scaled:
        records.note("normalised-outline", image.id, number)
    points = np.concatenate(polygons.corners).reshape(-1, 2)
    beyond = np.max([-points, points - (image.width, image.height)])
    if beyond > TOLERANCE_PX:
        records.note("outline-outside", image.id, number, f"by {beyond:.0f} pixels")


def _image_of(raw: Any) -> int | None:
    image_id = raw.get("image_id") if isinstance(raw, dict) else None
    return image_id if isinstance(image_id, int) else None


def _reason(error: Exception) -> str:
    return f"it has no {error.args[0]}" if isinstance(error, KeyError) else one_line(error)

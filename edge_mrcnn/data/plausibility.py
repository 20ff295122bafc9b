"""Checks on all records of a split together: the format of boxes and areas, copies, and categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edge_mrcnn.data.coco import CocoImage
from edge_mrcnn.data.faults import Place
from edge_mrcnn.data.records import TOLERANCE_PX, Instance, Records

MIN_BOX_IOU = 0.5
"""A box whose IoU with its outline's box is below this does not fit."""
MIN_OFF = 5
"""Minimum number of boxes that do not fit their outlines, to see a pattern."""
SURE_BOX_IOU = 0.8
"""Mean IoU with their outlines' boxes from which boxes are read correctly."""
AREA_RATIO = 2.0
"""Ratio of annotated to actual area, or the reverse, from which an area does not fit."""
AREA_SLACK_PX = 16
"""Areas may differ by this many pixels at any ratio: small outlines are drawn coarsely."""
LARGE_PART = 0.2
"""Share of crowds among a category's objects from which it is reported."""
BACKGROUND_NAMES = frozenset({"_background_", "__background__", "__ignore__", "_ignore_"})
"""Categories of labelme and others that are not objects."""

Box = Sequence[float]


def clean_records(records: Records, *, is_training: bool) -> Records:
    """Correct boxes and areas in another format, and remove unused categories.

    Args:
        records: Records of a split; faults are added to it.
        is_training: Remove every category without objects; else only those that cannot have any.
    """
    if _has_corner_boxes(records):
        _read_corners(records)
    if _are_elsewhere(records):
        _take_boxes_of_outlines(records)
    _note_boxes(records)
    _mend_areas(records)
    _note_copies(records)
    _note_crowds(records)
    return _leave_out(records, is_training)


def _has_corner_boxes(records: Records) -> bool:
    """Whether boxes are x0 y0 x1 y1: read in this way they fit their outlines, and as xywh they do not."""
    as_written = as_corners = count = 0.0
    for instance in records.instances:
        if instance.is_outlined and not instance.iscrowd:
            box = instance.annotation["bbox"]
            count += 1
            as_written += box_iou(box, instance.box_xywh)
            as_corners += box_iou(from_corners(box), instance.box_xywh)
    return as_corners > as_written and as_corners >= SURE_BOX_IOU * count


def _read_corners(records: Records) -> None:
    for instance in records.instances:
        box = instance.annotation["bbox"]
        read = from_corners(box)
        if min(read[2:]) <= 0:
            continue
        records.note("box-xyxy", instance.image_id, instance.id, box_text(box))
        instance.annotation["bbox"] = read


def _are_elsewhere(records: Records) -> bool:
    """Whether most boxes do not fit their outlines: centres for corners, another scale, x and y swapped."""
    off = count = 0
    for instance in records.instances:
        if instance.is_outlined and not instance.iscrowd:
            count += 1
            off += box_iou(instance.annotation["bbox"], instance.box_xywh) < MIN_BOX_IOU
    return off >= MIN_OFF and off > count / 2


def _take_boxes_of_outlines(records: Records) -> None:
    for instance in records.instances:
        box = instance.annotation["bbox"]
        if instance.is_outlined and not instance.iscrowd and box_iou(box, instance.box_xywh) < MIN_BOX_IOU:
            detail = f"{box_text(box)}, outline's {box_text(instance.box_xywh)}"
            records.note("boxes-elsewhere", instance.image_id, instance.id, detail)
            instance.annotation["bbox"] = list(instance.box_xywh)


def from_corners(box: Box) -> list[float]:
    """The xywh box of x0 y0 x1 y1."""
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


def box_iou(one: Box, other: Box) -> float:
    """IoU of two xywh boxes; 0 if one has no area."""
    x, y, width, height = one
    other_x, other_y, other_width, other_height = other
    common_width = min(x + width, other_x + other_width) - max(x, other_x)
    common_height = min(y + height, other_y + other_height) - max(y, other_y)
    if common_width <= 0 or common_height <= 0:
        return 0.0
    common = common_width * common_height
    both = width * height + other_width * other_height - common
    return common / both


def box_text(box: Box) -> str:
    """A box in words."""
    return "box {:g} {:g} {:g} {:g}".format(*box)


def _note_boxes(records: Records) -> None:
    for instance in records.instances:
        box = instance.annotation["bbox"]
        image = records.images[instance.image_id]
        if leaves_image(box, image):
            detail = f"{box_text(box)} in {image.width} x {image.height}"
            records.note("box-outside", instance.image_id, instance.id, detail)
        elif instance.is_outlined and not instance.iscrowd and box_iou(box, instance.box_xywh) < MIN_BOX_IOU:
            detail = f"{box_text(box)}, outline's {box_text(instance.box_xywh)}"
            records.note("box-off-outline", instance.image_id, instance.id, detail)


def leaves_image(box: Box, image: CocoImage) -> bool:
    """Whether an xywh box extends outside of its image by more than rounding."""
    x, y, width, height = box
    beyond = max(-x, -y, x + width - image.width, y + height - image.height)
    return beyond > TOLERANCE_PX


def _mend_areas(records: Records) -> None:
    for instance in records.instances:
        if not instance.is_outlined:
            continue
        area = instance.annotation["area"]
        pixels = instance.area
        if not _is_near(area, pixels):
            detail = f"area {area:g}, outline's {pixels}"
            records.note("area-off-outline", instance.image_id, instance.id, detail)
            instance.annotation["area"] = float(pixels)


def _is_near(area: float, pixels: int) -> bool:
    if abs(area - pixels) <= AREA_SLACK_PX:
        return True
    return max(area, pixels) <= AREA_RATIO * min(area, pixels)


def _note_copies(records: Records) -> None:
    seen: dict[tuple[Any, ...], Any] = {}
    for instance in records.instances:
        key = (instance.image_id, instance.category_id, instance.area, instance.box_xywh)
        if key in seen:
            records.note("duplicate-object", instance.image_id, instance.id, f"the same as object {seen[key]}")
        seen.setdefault(key, instance.id)


def _note_crowds(records: Records) -> None:
    every: Counter[int] = Counter()
    crowds: Counter[int] = Counter()
    for instance in records.instances:
        every[instance.category_id] += 1
        if instance.iscrowd:
            crowds[instance.category_id] += 1
    for category, count in crowds.items():
        if count > LARGE_PART * every[category]:
            detail = f"{records.categories[category]}: {count} of {every[category]}"
            records.faults.append(("mostly-crowd", Place(records.split, detail=detail)))


def _leave_out(records: Records, is_training: bool) -> Records:
    """The records without categories that have no object, unless none has any."""
    counts = count_objects(records.instances)
    kept = {}
    for number, name in records.categories.items():
        place = Place(records.split, detail=name)
        is_empty_root = number == 0 and not counts[number]
        if is_empty_root or name.casefold() in BACKGROUND_NAMES:
            records.faults.append(("root-category", place))
        elif counts[number] or not counts or not is_training:
            kept[number] = name
        else:
            records.faults.append(("class-without-objects", place))
    instances = [instance for instance in records.instances if instance.category_id in kept]
    return replace(records, categories=kept, instances=instances)


def count_objects(instances: Sequence[Instance]) -> Counter[int]:
    """Category id -> number of objects, without crowds."""
    return Counter(instance.category_id for instance in instances if not instance.iscrowd)

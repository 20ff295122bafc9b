"""labelme: a JSON file per image, beside it or with a path to it.

Source: https://github.com/wkentaro/labelme, `labelme/_label_file.py` and `examples/instance_segmentation`: shapes with
the same label and group are one object. A rectangle is a box; lines and points are not objects.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mrcnn.data.layouts import WHOLE, SplitSource, find_child, names_of
from edge_mrcnn.data.layouts.pictures import SUFFIXES, category_rows, image_row
from runtimes.errors import DataError, one_line

log = logging.getLogger(__name__)

TITLE = "labelme (a JSON file for each picture)"
LOOKED_AT = 5
"""Number of JSON files of a folder among which at least one must be of labelme."""
CORNERS = 64
"""Number of corners of the polygon for a circle."""

Shape = dict[str, Any]


def find(root: Path, split: str) -> SplitSource | None:
    """The split in a folder of this name, or all in one folder."""
    folder = root if split == WHOLE else find_child(root, names_of(split))
    if folder is None or not folder.is_dir():
        return None
    first_files = sorted(folder.rglob("*.json"))[:LOOKED_AT]
    if not any(map(_is_label_file, first_files)):
        return None
    return SplitSource(TITLE, folder, folder, root, read_folder)


def _is_label_file(path: Path) -> bool:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and isinstance(record.get("shapes"), list)


def read_folder(source: SplitSource) -> dict[str, Any]:
    """COCO's tables of all files under a folder; categories are in the order of their names."""
    files = list(filter(_is_label_file, sorted(source.folder.rglob("*.json"))))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    ignored = 0
    for number, file in enumerate(files, start=1):
        record = json.loads(file.read_bytes())
        image = _image_row(number, file, record)
        images.append(image)
        for shapes in group_shapes(record["shapes"]):
            outline = _outline_of(shapes, image, file)
            if outline is None:
                ignored += 1
                continue
            label = str(shapes[0].get("label"))
            annotations.append({"id": len(annotations) + 1, "image_id": number, "label": label, **outline})
    if ignored:
        what = (
            "1 line or point is not an object and is"
            if ignored == 1
            else f"{ignored} lines and points are not objects and are"
        )
        log.warning("%s: %s left out", source.folder, what)
    names = sorted({row["label"] for row in annotations})
    for row in annotations:
        row["category_id"] = names.index(row["label"]) + 1
    if not names:
        raise DataError(f"{source.folder}: no polygon, box or mask in {len(files)} labelme files")
    return {"images": images, "annotations": annotations, "categories": category_rows(names)}


def _image_row(number: int, file: Path, record: dict[str, Any]) -> dict[str, Any]:
    height, width = record.get("imageHeight"), record.get("imageWidth")
    size = (int(height), int(width)) if height and width else None
    return image_row(number, _picture_of(file, record), size)


def _picture_of(file: Path, record: dict[str, Any]) -> Path:
    """The image that a file names, or the one beside it with the same stem."""
    stated = str(record.get("imagePath") or "")
    named = file.parent / stated.replace("\\", "/")  # labelme on Windows writes backslashes
    if named.is_file():
        return named
    for beside in sorted(file.parent.glob(f"{file.stem}.*")):
        if beside.suffix.casefold() in SUFFIXES:
            return beside
    return named


def group_shapes(shapes: list[Shape]) -> Iterator[list[Shape]]:
    """Shapes of one object: with the same label and group; without a group, each is one object."""
    groups: dict[tuple[str, Any], list[Shape]] = {}
    for place, shape in enumerate(shapes):
        group = shape.get("group_id")
        key = (str(shape.get("label")), group)
        if group is None or kind_of(shape) not in ("polygon", "circle"):
            key = ("", place)  # the shape is in no group: use a key of its own
        groups.setdefault(key, []).append(shape)
    yield from groups.values()


def kind_of(shape: Shape) -> str:
    """Type of the shape; old files do not state it."""
    return str(shape.get("shape_type") or "polygon")


def _outline_of(shapes: list[Shape], image: dict[str, Any], file: Path) -> dict[str, Any] | None:
    """COCO's segmentation, or box; None for shapes that are not objects."""
    kind = kind_of(shapes[0])
    try:
        if kind == "rectangle":
            return {"segmentation": None, "bbox": _box_of(shapes[0])}
        if kind == "mask":
            return {"segmentation": _runs_of(shapes[0], (image["height"], image["width"]))}
        if kind in ("polygon", "circle"):
            return {"segmentation": [_polygon_of(shape) for shape in shapes]}
    except (KeyError, TypeError, ValueError, IndexError, cv2.error) as error:
        raise DataError(f"{file}: a {kind} cannot be read: {one_line(error)}") from error
    return None


def _box_of(shape: Shape) -> list[float]:
    points = np.array(shape["points"], float)
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    return [float(left), float(top), float(right - left), float(bottom - top)]


def _polygon_of(shape: Shape) -> list[float]:
    points = np.array(shape["points"], float)
    if kind_of(shape) == "circle":
        center, edge = points
        radius = np.linalg.norm(edge - center)
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        points = center + radius * directions
    corners: list[float] = points.ravel().tolist()
    return corners


def _runs_of(shape: Shape, size_hw: tuple[int, int]) -> dict[str, Any]:
    """A mask that is stored as a PNG of its box."""
    from pycocotools import mask as rle

    left, top = (round(value) for value in shape["points"][0])
    png = np.frombuffer(base64.b64decode(shape["mask"]), np.uint8)
    mask = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ValueError("its PNG is damaged")
    height, width = mask.shape
    whole: np.ndarray = np.zeros(size_hw, np.uint8, order="F")
    seen = whole[top : top + height, left : left + width]
    seen_height, seen_width = seen.shape
    seen[:] = mask[:seen_height, :seen_width] > 0
    runs: dict[str, Any] = rle.encode(whole)
    return runs

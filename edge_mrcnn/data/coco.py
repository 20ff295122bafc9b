"""COCO-format instance annotations, read once and cleaned, without torch.

Source of the format: https://cocodataset.org/#format-data. Polygons, compressed and uncompressed RLE,
crowds, sparse category ids, images without objects and degenerate masks are all normal input.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from quantize.coco_folder import image_folder
from runtimes.errors import DataError, MissingFileError, one_line

log = logging.getLogger(__name__)

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
    """One annotation file."""

    path: Path
    """The annotation file."""
    images: tuple[CocoImage, ...]
    """All images, those without objects included, in file order."""
    categories: dict[int, str]
    """Category id to name, in ascending order of id; ids may be sparse."""
    by_image: dict[int, list[Annotation]] = field(repr=False)
    """Cleaned annotations of each image; images without objects are absent."""
    dropped: int = 0
    """Annotations left out because their mask is empty or their box has no area."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Category names, ordered by id; a label indexes this."""
        return tuple(self.categories.values())

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Category ids, ordered; the id of label i is `category_ids[i]`."""
        return tuple(self.categories)

    def annotations(self, image_id: int) -> list[Annotation]:
        """Objects of one image: compressed RLE, xywh box and area in pixels, iscrowd, category_id."""
        return self.by_image.get(image_id, [])


def find_annotations(path: str | Path, split: str) -> Path:
    """The annotation file that a folder or file name means.

    Args:
        path: A JSON file, or a folder with `annotations/instances_<split>.json`.
        split: "train", "val" or another name of a split.

    Raises:
        MissingFileError: If neither exists.
    """
    path = Path(path)
    if path.is_file():
        return path
    file = path / "annotations" / f"instances_{split}.json"
    if path.is_dir() and file.is_file():
        return file
    what = f"{file}: no such file" if path.is_dir() else f"{path}: no such file or folder"
    raise MissingFileError(f"{what}; expected a COCO JSON file or a folder with annotations/instances_{split}.json")


def load_coco(path: str | Path, split: str = "val") -> CocoData:
    """Read COCO instance annotations.

    Args:
        path: A JSON file, or a folder with `annotations/instances_<split>.json` and `images/<split>/`.
        split: Which split of a folder.

    Raises:
        MissingFileError: If there is no such file.
        DataError: If the file is not COCO instance JSON.
    """
    path = find_annotations(path, split)
    record = read_json(path)
    with _naming(f"{path}: a category"):
        categories = dict(sorted((int(c["id"]), str(c["name"])) for c in record["categories"]))
    folder = image_folder(path)
    with _naming(f"{path}: an image"):
        images = tuple(
            CocoImage(int(i["id"]), folder / i["file_name"], int(i["width"]), int(i["height"]))
            for i in record["images"]
        )
    sizes = {image.id: (image.height, image.width) for image in images}
    by_image: dict[int, list[Annotation]] = {}
    dropped = 0
    for number, raw in enumerate(record["annotations"], start=1):
        with _naming(f"{path}: annotation {number}"):
            clean = _clean(raw, sizes, categories)
        if clean is None:
            dropped += 1
        else:
            by_image.setdefault(clean["image_id"], []).append(clean)
    if dropped:
        log.info("%s: %d annotations without a visible area were left out", path, dropped)
    return CocoData(path, images, categories, by_image, dropped)


def decode_mask(annotation: Annotation) -> np.ndarray:
    """The (H, W) uint8 mask of a cleaned annotation, 1 inside the object."""
    from pycocotools import mask as rle

    mask: np.ndarray = rle.decode(annotation["segmentation"])
    return mask


@contextmanager
def _naming(record: str) -> Iterator[None]:
    """Turn whatever a malformed record raises, pycocotools included, into a DataError that names the record."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{record} has no {error.args[0]}") from error
    except Exception as error:
        raise DataError(f"{record} is malformed: {one_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The record of an annotation file, which has lists of images, annotations and categories.

    Raises:
        DataError: If it is something else, or lists no image or no category.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected COCO annotations, but it is not JSON ({one_line(error)})") from error
    missing = {"images", "annotations", "categories"} - set(record if isinstance(record, dict) else ())
    if missing:
        raise DataError(f"{path}: expected COCO instance annotations, but {', '.join(sorted(missing))} is missing")
    for table in ("images", "annotations", "categories"):
        if not isinstance(record[table], list):
            raise DataError(f"{path}: expected a list of {table}, got {type(record[table]).__name__}")
    for table in ("images", "categories"):
        if not record[table]:
            raise DataError(f"{path}: it lists no {table}")
    return dict(record)


def _clean(raw: Annotation, sizes: dict[int, tuple[int, int]], categories: dict[int, str]) -> Annotation | None:
    """One annotation in the form that `CocoData.annotations` promises, or None if nothing of it is visible."""
    image_id, category = int(raw["image_id"]), int(raw["category_id"])
    if image_id not in sizes or category not in categories:
        raise ValueError(f"image_id {image_id} or category_id {category} is not listed")
    size = sizes[image_id]
    segmentation = compress_outline(raw.get("segmentation"), size)
    if segmentation is None:
        return None
    from pycocotools import mask as rle

    visible = [float(v) for v in rle.toBbox(segmentation)]
    if visible[2] < 1 or visible[3] < 1:
        return None
    x, y, width, height = raw.get("bbox") or visible
    return {
        "id": int(raw.get("id", 0)),
        "image_id": image_id,
        "category_id": category,
        "segmentation": segmentation,
        "bbox": [float(x), float(y), float(width), float(height)],
        "area": float(raw.get("area") or rle.area(segmentation)),
        "iscrowd": int(raw.get("iscrowd", 0)),
    }


def compress_outline(segmentation: Any, size_hw: tuple[int, int]) -> dict[str, Any] | None:
    """Polygons or any RLE as one compressed RLE; None where there is no usable outline.

    Raises:
        ValueError: If the runs do not fill the image; pycocotools raises others for what is malformed.
    """
    from pycocotools import mask as rle

    height, width = size_hw
    if isinstance(segmentation, dict):
        return _compress_runs(segmentation, height, width)
    polygons = [p for p in segmentation or [] if len(p) >= 6]
    return rle.merge(rle.frPyObjects(polygons, height, width)) if polygons else None


def _compress_runs(segmentation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    from pycocotools import mask as rle

    counts = segmentation["counts"]
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"its RLE is of size {segmentation['size']}, its image of {[height, width]}")
    if not isinstance(counts, list):
        rle.decode(dict(segmentation))  # refuses what does not fill the image
        return dict(segmentation)
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"its run lengths do not add up to {height} x {width} pixels")
    compressed: dict[str, Any] = rle.frPyObjects(segmentation, height, width)
    return compressed

"""Writing of data sets as COCO: the corrected records, without unusable ones."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.data.files import hash_file
from edge_mrcnn.data.loading import find_source, has_split, refuse_errors, tell_mended
from edge_mrcnn.data.outlines import understand_polygons
from edge_mrcnn.data.plausibility import clean_records
from edge_mrcnn.data.records import Instance, Records, are_shares, read_records
from runtimes.errors import DataError, MissingFileError, UsageError
from runtimes.progress import Progress, silent

SPLITS = ("train", "val", "test")
NOT_MENDABLE = ("duplicate-image-id", "duplicate-category-id")
"""Faults that make it unclear which object belongs to which image or category."""


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    path: Path
    images: int
    objects: int
    removed: int
    """Number of annotations that could not be used."""


def convert(
    source: str | Path, target: str | Path, *, learn_crowds: bool = False, progress: Progress = silent
) -> list[Written]:
    """Write every split of a data set as COCO JSON, with an image folder.

    Images are hard-linked if the file system supports it, which takes no space, and copied otherwise.

    Args:
        source: Any path that `load` reads.
        target: New or empty folder.
        learn_crowds: Write crowd regions as single objects.
        progress: Called after each image.

    Raises:
        UsageError: If the folder is not empty.
        MissingFileError: If there is no such data set, or an image is missing.
        DataError: If the data has a fault that must be fixed.
    """
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"-o {target}: expected a new or an empty folder")
    names = [name for name in SPLITS if has_split(source, name)] or ["train"]
    splits = []
    for name in names:
        found = find_source(source, name)
        records = clean_records(read_records(found, name, learn_crowds=learn_crowds), is_training=False)
        refuse_errors(found.path, records.faults)
        tell_mended(found.path, records.faults)
        splits.append(records)
    return [_write_split(records, target, progress) for records in splits]


def _write_split(records: Records, target: Path, progress: Progress) -> Written:
    folder = target / "images" / records.split
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[int, str] = {}
    for image in records.images.values():
        if not image.path.is_file():
            raise MissingFileError(f"{image.path}: image not found, but {records.path} lists it")
        names[image.id] = free_name(image.path, set(names.values()))
        _link(image.path, folder / names[image.id])
        progress(f"pictures of {records.split}", len(names), len(records.images))
    path = target / "annotations" / f"instances_{records.split}.json"
    return write_records(records, path, lambda image: names[image.id])


def free_name(path: Path, taken: set[str]) -> str:
    """The name of a file, with its parent folders in front as long as another file has the same name."""
    parts = list(path.parts)
    name = parts.pop()
    while name in taken and parts:
        name = f"{parts.pop().strip(os.sep)}_{name}"
    return name


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        if hash_file(source) != hash_file(target):
            raise DataError(f"{target}: the copy differs from {source}") from None


def fix(records: Records, path: Path) -> Written:
    """Write the corrected records of a split to a new file.

    Args:
        records: Cleaned records.
        path: New JSON file; names of images are relative to its folder.

    Raises:
        UsageError: If the file exists.
        DataError: If image or category ids are used twice.
    """
    if path.exists():
        raise UsageError(f"--fix {path}: this file exists already; expected a new one")
    for name, place in records.faults:
        if name in NOT_MENDABLE:
            raise DataError(f"--fix: {place}: an id that is used twice cannot be fixed; renumber them")
    folder = path.absolute().parent
    return write_records(records, path, lambda image: os.path.relpath(image.path.absolute(), folder))


def write_records(records: Records, path: Path, name_of: Callable[[CocoImage], str]) -> Written:
    """Write a split as COCO JSON.

    Args:
        records: Cleaned records.
        path: Output file.
        name_of: Returns `file_name`.
    """
    images = [
        {"id": image.id, "file_name": name_of(image), "width": image.width, "height": image.height}
        for image in records.images.values()
    ]
    categories = [{"id": number, "name": name} for number, name in records.categories.items()]
    record = {"images": images, "annotations": annotation_rows(records), "categories": categories}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    return Written(path, len(images), len(records.instances), len(records.annotations) - len(records.instances))


def write_data(data: CocoData, path: Path) -> None:
    """Write a data set from memory as COCO JSON; names of images are relative to the file's folder."""
    folder = path.absolute().parent
    images = []
    annotations = []
    for image in data.images:
        name = os.path.relpath(image.path.absolute(), folder)
        images.append({"id": image.id, "file_name": name, "width": image.width, "height": image.height})
        for annotation in data.objects(image.id):
            annotations.append({**annotation, "segmentation": _plain_runs(annotation["segmentation"])})
    categories = [{"id": number, "name": name} for number, name in data.categories.items()]
    record = {"images": images, "annotations": annotations, "categories": categories}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")


def _plain_runs(outline: dict[str, Any] | None) -> Any:
    """Compressed run lengths in a form for JSON; an empty list for an object without an outline."""
    if outline is None:
        return []
    counts = outline["counts"]
    return {"size": outline["size"], "counts": counts.decode() if isinstance(counts, bytes) else counts}


def annotation_rows(records: Records) -> list[dict[str, Any]]:
    """COCO's annotations, with polygons as polygons, and unique ids."""
    ids = Counter(instance.annotation["id"] for instance in records.instances)
    is_numbered = all(count == 1 and number > 0 for number, count in ids.items())
    in_shares = are_shares(records.annotations)
    rows = []
    for number, instance in enumerate(records.instances, start=1):
        segmentation = _segmentation_of(records, instance, in_shares)
        row = {**instance.annotation, "segmentation": segmentation}
        rows.append(row if is_numbered else {**row, "id": number})
    return rows


def _segmentation_of(records: Records, instance: Instance, in_shares: bool) -> Any:
    outline = instance.annotation["segmentation"]
    if outline is None:
        return []
    written = records.annotations[instance.row]["segmentation"]
    if isinstance(written, dict):
        return _plain_runs(outline)
    image = records.images[instance.image_id]
    polygons = understand_polygons(written, (image.height, image.width), in_shares)
    return [polygon.round(2).tolist() for polygon in polygons.corners]

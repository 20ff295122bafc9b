"""YOLO segmentation: a `data.yaml`, images, and a text file of polygons or boxes for each image.

Source: https://docs.ultralytics.com/datasets/segment. A line is the class, then x y of each corner as shares of width
and height; a line with four numbers is a box: its centre, width and height.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_mrcnn.data.files import read_lines
from edge_mrcnn.data.layouts import WHOLE, SplitSource, find_child, names_of
from edge_mrcnn.data.layouts.pictures import category_rows, image_row, list_pictures
from runtimes.errors import DataError, EdgeError, MissingExtraError, one_line

TITLE = "YOLO ({})"
LINE_SHOWN = 40
"""Maximum number of characters of an unreadable line in messages."""
FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def find(root: Path, split: str) -> SplitSource | None:
    """The split of this name, of a `data.yaml`; or all of `images/` and `labels/`, named by `classes.txt`."""
    file = find_child(root, FILES) or _only_description(root)
    if file is not None:
        return find_in(file, split)
    names = find_child(root, ("classes.txt", "obj.names"))
    if split != WHOLE or names is None or not (root / "labels").is_dir():
        return None
    pictures = root / "images"
    if not pictures.is_dir():
        pictures = root
    return SplitSource(TITLE.format(names.name), names, pictures, root, _read_named)


def _only_description(root: Path) -> Path | None:
    """The YAML file of a folder that lists images and names, if there is only one."""
    found = [file for file in sorted(root.glob("*.y*ml")) if _describes_data(file)]
    return found[0] if len(found) == 1 else None


def _describes_data(file: Path) -> bool:
    try:
        return {"train", "names"} <= set(read_yaml(file))
    except EdgeError:
        return False


def find_in(file: Path, split: str) -> SplitSource | None:
    """The split of this name of a `data.yaml`; None if it has none, or if it is the training images again."""
    record = read_yaml(file)
    pictures = _pictures_of(record, split)
    is_repeated = split != "train" and pictures == _pictures_of(record, "train")
    if pictures is None or is_repeated:
        return None
    root = _base(file, record)
    return SplitSource(TITLE.format(file.name), file, root, root, lambda _: read_split(file, split))


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of a `data.yaml`.

    Raises:
        MissingExtraError: If PyYAML is not installed.
        DataError: If it is another file.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise MissingExtraError("PyYAML is needed to read data.yaml: pip install 'edge-mrcnn[report]'") from error
    try:
        record = yaml.safe_load(file.read_bytes())
    except yaml.YAMLError as error:
        raise DataError(f"{file}: expected YAML ({one_line(error)})") from error
    if not isinstance(record, dict):
        raise DataError(f"{file}: expected the keys train, val and names, got {type(record).__name__}")
    return record


def read_split(file: Path, split: str) -> dict[str, Any]:
    """COCO's tables of one split of a `data.yaml`."""
    record = read_yaml(file)
    entries = _pictures_of(record, split) or []
    pictures = []
    for entry in entries:
        pictures += _list_entry(file, record, entry)
    if not pictures:
        raise DataError(f"{file}: no image in {', '.join(entries)} of {split}")
    return read_pictures(pictures, class_names(record), file)


def _read_named(source: SplitSource) -> dict[str, Any]:
    return read_pictures(list_pictures(source.folder), read_lines(source.path), source.path)


def read_pictures(pictures: list[Path], names: list[str], file: Path) -> dict[str, Any]:
    """COCO's tables of images with a text file each; an image without one has no object.

    Raises:
        DataError: If none of the images has one.
    """
    images, annotations = [], []
    labels = [label_file(picture) for picture in pictures]
    if not any(label.is_file() for label in labels):
        raise DataError(f"{file}: none of {len(pictures)} images has a label file, such as {labels[0]}")
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True), start=1):
        row = image_row(number, picture)
        images.append(row)
        if label.is_file():
            annotations += read_labels(label, row)
    return {"images": images, "annotations": annotations, "categories": category_rows(names)}


def label_file(picture: Path) -> Path:
    """The text file of an image: `labels` instead of the last `images` in its path, or else beside it."""
    parts = list(picture.with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts)


def read_labels(file: Path, image: dict[str, Any]) -> list[dict[str, Any]]:
    """COCO's annotations of one text file; unreadable lines are left to the check of records."""
    sides = image.get("width", 0), image.get("height", 0)
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row: dict[str, Any] = {"id": f"{file.name}:{number}", "image_id": image["id"]}
        try:
            label, *shares = map(float, line.split())
            row |= {"category_id": int(label) + 1, **_shape_of(shares, sides)}
        except ValueError:
            row["category_id"] = line[:LINE_SHOWN]
        rows.append(row)
    return rows


def _shape_of(shares: list[float], sides: tuple[int, int]) -> dict[str, Any]:
    """COCO's segmentation, or box, from alternating x and y as shares of width and height."""
    pixels = [share * sides[place % 2] for place, share in enumerate(shares)]
    if len(pixels) != 4:
        return {"segmentation": [pixels]}
    center_x, center_y, width, height = pixels
    left = center_x - width / 2
    top = center_y - height / 2
    return {"segmentation": None, "bbox": [left, top, width, height]}


def class_names(record: dict[str, Any]) -> list[str]:
    """Names by class, which YAML has as a list or as a table of numbers; missing names become numbers."""
    names = record.get("names")
    if isinstance(names, list):
        return [str(name) for name in names]
    by_number = names if isinstance(names, dict) else {}
    count = int(record.get("nc") or 0)
    for number in by_number:
        count = max(count, int(number) + 1)
    return [str(by_number.get(number, f"class {number}")) for number in range(count)]


def _pictures_of(record: dict[str, Any], split: str) -> list[str] | None:
    """Folders or lists of a split."""
    for name in names_of(split):
        entry = record.get(name)
        if isinstance(entry, list) and entry:
            return list(map(str, entry))
        if entry:
            return [str(entry)]
    return None


def _base(file: Path, record: dict[str, Any]) -> Path:
    """The root folder in a `data.yaml`, if it exists here."""
    stated = file.parent / str(record.get("path") or ".")
    return stated if stated.is_dir() else file.parent


def _list_entry(file: Path, record: dict[str, Any], entry: str) -> list[Path]:
    """The images of a folder, or those listed in a text file."""
    plain = entry.replace("\\", "/")
    inside = plain.removeprefix("../")  # Roboflow writes ../train/images for a folder beside the file
    base = _base(file, record)
    places = (base / plain, file.parent / plain, base / inside, file.parent / inside)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise DataError(f"{file}: {entry} is not there")
    if path.is_dir():
        return list_pictures(path)
    return [base / line for line in read_lines(path)]

"""Shared by the layouts with COCO JSON: reading the file, and the usual folders of its images."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from edge_mrcnn.data.layouts import SplitSource
from quantize.coco_folder import image_folder
from runtimes.errors import DataError, MissingFileError, one_line

log = logging.getLogger(__name__)

TABLES = ("images", "annotations", "categories")

OTHER_TOOLS = {
    "regions": "VIA (VGG Image Annotator)",
    "completions": "Label Studio",
    "annotations": "Label Studio or CreateML",
}
"""Key of the first entry of another tool's JSON -> the tool."""


def read_tables(source: SplitSource) -> dict[str, Any]:
    """The tables of a COCO file; see `read_json`."""
    return read_json(source.path)


def read_json(path: Path) -> dict[str, Any]:
    """The content of an annotation file, which has lists of images, annotations and categories.

    A byte order mark, UTF-16, and keys in upper case are accepted.

    Raises:
        MissingFileError: If there is no such file.
        DataError: If it is another file, or lists no image or no category.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected COCO annotations, but it is not JSON ({one_line(error)})") from error
    if isinstance(record, dict) and not set(TABLES) <= set(record):
        lowered = lower_keys(record)
        if set(TABLES) <= set(lowered):
            log.warning("%s: keys in upper case are read as lower case", path.name)
            record = lowered
    missing = set(TABLES) - set(record if isinstance(record, dict) else ())
    if missing:
        what = _name_other(record) or f"{', '.join(sorted(missing))} is missing; export it as COCO"
        raise DataError(f"{path}: expected COCO instance annotations, but {what}")
    for table in TABLES:
        if not isinstance(record[table], list):
            raise DataError(f"{path}: expected a list of {table}, got {type(record[table]).__name__}")
    for table in ("images", "categories"):
        if not record[table]:
            raise DataError(f"{path}: it lists no {table}")
    return dict(record)


def _name_other(record: Any) -> str:
    """Description of JSON of another tool, with advice; empty if it is not known."""
    if isinstance(record, dict) and "shapes" in record:
        return "this is a labelme file of one image; give the folder that it is in"
    entries = record if isinstance(record, list) else list(record.values()) if isinstance(record, dict) else []
    first = entries[0] if entries and isinstance(entries[0], dict) else {}
    tool = next((tool for key, tool in OTHER_TOOLS.items() if key in first), "")
    return f"this is a file of {tool}; export it as COCO" if tool else ""


def lower_keys(record: dict[str, Any]) -> dict[str, Any]:
    """The same with keys in lower case, in the record and in the rows of its tables."""
    lowered: dict[str, Any] = {}
    for key, value in record.items():
        rows = value if isinstance(value, list) else []
        lowered[key.casefold()] = [_lower_row(row) for row in rows] if isinstance(value, list) else value
    return lowered


def _lower_row(row: Any) -> Any:
    return {key.casefold(): value for key, value in row.items()} if isinstance(row, dict) else row


def dataset_root(annotation_file: Path) -> Path:
    """The folder around `annotations/`, or else the annotation file's own."""
    folder = annotation_file.parent
    return folder.parent if folder.name.casefold() == "annotations" else folder


def json_source(title: str, path: Path, folder: Path | None = None) -> SplitSource:
    """A split in one COCO file."""
    return SplitSource(title, path, folder or image_folder(path), dataset_root(path), read_tables)

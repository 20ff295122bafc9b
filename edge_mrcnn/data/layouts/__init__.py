"""Layouts of data sets in folders, one module for each; a new one is a module and a line here.

A module has a `TITLE` for messages and `find(root, split)`, which returns the `SplitSource` of a split or None. It is
called with "train", "val" or another name of a split, and with `WHOLE` for a data set without splits.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from runtimes.errors import MissingFileError

WHOLE = "whole"
"""Name of the only split of a data set without splits."""

LAYOUTS = {
    "ours": "edge_mrcnn.data.layouts.plain",
    "coco": "edge_mrcnn.data.layouts.coco_years",
    "cvat": "edge_mrcnn.data.layouts.cvat",
    "roboflow": "edge_mrcnn.data.layouts.roboflow",
    "fiftyone": "edge_mrcnn.data.layouts.fiftyone",
    "yolo": "edge_mrcnn.data.layouts.yolo",
    "voc": "edge_mrcnn.data.layouts.voc",
    "labelme": "edge_mrcnn.data.layouts.labelme",
    "json": "edge_mrcnn.data.layouts.one_json",
}
"""Name -> module, in the order in which they are tried."""

SYNONYMS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev")}
"""Names of splits in other tools."""

EXPECTED = (
    "annotations/instances_train.json (or _train2017, _default), train/_annotations.coco.json (Roboflow), labels.json "
    "and data/ (FiftyOne), data.yaml (YOLO), ImageSets/Segmentation (Pascal VOC), or labelme JSON files"
)


@dataclass(frozen=True)
class SplitSource:
    """A split that was found, and how to read it."""

    title: str
    """Title of its layout."""
    path: Path
    """Annotation file, or folder."""
    folder: Path
    """Folder that file names are relative to."""
    root: Path
    """Root of the whole data set."""
    read: Callable[[SplitSource], dict[str, Any]] = field(repr=False)
    """Returns COCO's tables `images`, `annotations` and `categories`."""


def names_of(split: str) -> tuple[str, ...]:
    """Possible names of a split, its own name first."""
    return SYNONYMS.get(split, (split,))


def find_layout(root: Path) -> ModuleType:
    """The layout of a folder.

    Raises:
        MissingFileError: If the layout is unknown.
    """
    for module_name in LAYOUTS.values():
        module = importlib.import_module(module_name)
        if any(module.find(root, split) for split in (*SYNONYMS, "test", WHOLE)):
            return module
    what = "no data set in a known layout" if root.is_dir() else "no such file or folder"
    raise MissingFileError(f"{root}: {what}; expected a COCO JSON file or a folder with {EXPECTED}")


def find_child(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The entry of a folder with one of these names, ignoring case."""
    if not folder.is_dir():
        return None
    entries = {entry.name.casefold(): entry for entry in sorted(folder.iterdir())}
    return next((entries[name.casefold()] for name in names if name.casefold() in entries), None)

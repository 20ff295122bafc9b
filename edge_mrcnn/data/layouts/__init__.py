"""How data sets lie in folders, one module for each layout; a new one is a module and a line here.

A module has a `TITLE` for the user and `find(root, split)`, which returns the `SplitSource` of a split or None. It is
asked for "train", "val" or another name of a split, and for `WHOLE`, which is a data set that is not divided.
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
"""Name of the only split of a data set that is not divided."""

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
"""Name to module, in the order in which they are tried."""

SYNONYMS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev")}
"""What splits are called."""

EXPECTED = (
    "annotations/instances_train.json (or _train2017, _default), train/_annotations.coco.json (Roboflow), labels.json "
    "and data/ (FiftyOne), data.yaml (YOLO), ImageSets/Segmentation (Pascal VOC), or JSON files of labelme"
)


@dataclass(frozen=True)
class SplitSource:
    """A split that was found, and how to read it."""

    title: str
    """Of its layout."""
    path: Path
    """Annotation file, or folder."""
    folder: Path
    """That file names are relative to."""
    root: Path
    """Of the whole data set."""
    read: Callable[[SplitSource], dict[str, Any]] = field(repr=False)
    """Gives COCO's tables `images`, `annotations` and `categories`."""


def names_of(split: str) -> tuple[str, ...]:
    """What a split may be called, its own name first."""
    return SYNONYMS.get(split, (split,))


def find_layout(root: Path) -> ModuleType:
    """The layout of a folder.

    Raises:
        MissingFileError: If it is none that is known here.
    """
    for module_name in LAYOUTS.values():
        module = importlib.import_module(module_name)
        if any(module.find(root, split) for split in (*SYNONYMS, "test", WHOLE)):
            return module
    what = "no data set in it that is known here" if root.is_dir() else "no such file or folder"
    raise MissingFileError(f"{root}: {what}; expected a COCO JSON file or a folder with {EXPECTED}")


def find_child(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The entry of a folder with one of these names, in any case of letters."""
    if not folder.is_dir():
        return None
    entries = {entry.name.casefold(): entry for entry in sorted(folder.iterdir())}
    return next((entries[name.casefold()] for name in names if name.casefold() in entries), None)

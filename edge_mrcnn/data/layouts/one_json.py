"""COCO JSON in no fixed place: `train.json`, `annotations/train.json`, or Label Studio's `result.json`."""

from __future__ import annotations

from pathlib import Path

from edge_mrcnn.data.layouts import WHOLE, SplitSource, find_child, names_of
from edge_mrcnn.data.layouts.coco_json import json_source

TITLE = "COCO JSON ({})"
WHOLE_NAMES = ("result.json", "annotations.json", "coco.json", "instances.json", "labels.json")


def find(root: Path, split: str) -> SplitSource | None:
    """The file named after the split, or with the name that tools give a single file."""
    names: tuple[str, ...] = WHOLE_NAMES
    if split != WHOLE:
        called = names_of(split)
        names = (*(f"{name}.json" for name in called), *(f"{name}_annotations.json" for name in called))
    for folder in (root, root / "annotations"):
        path = find_child(folder, names)
        if path is not None and path.is_file():
            return json_source(TITLE.format(path.relative_to(root)), path)
    return None

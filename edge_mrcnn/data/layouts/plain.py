"""`annotations/instances_<split>.json` with images in `images/<split>/`, `<split>/` or `images/`."""

from __future__ import annotations

from pathlib import Path

from edge_mrcnn.data.layouts import SplitSource, find_child, names_of
from edge_mrcnn.data.layouts.coco_json import json_source

TITLE = "COCO JSON by splits (annotations/instances_train.json)"


def find(root: Path, split: str) -> SplitSource | None:
    """The split of this name."""
    files = tuple(f"instances_{name}.json" for name in names_of(split))
    path = find_child(root / "annotations", files)
    return json_source(TITLE, path) if path else None

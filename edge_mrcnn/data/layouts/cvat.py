"""CVAT's "COCO 1.0": `annotations/instances_default.json` and `images/default/`; subsets are a layout of splits."""

from __future__ import annotations

from pathlib import Path

from edge_mrcnn.data.layouts import WHOLE, SplitSource
from edge_mrcnn.data.layouts.coco_json import json_source

TITLE = "CVAT's COCO export (annotations/instances_default.json)"


def find(root: Path, split: str) -> SplitSource | None:
    """The task, which has no splits."""
    path = root / "annotations" / "instances_default.json"
    return json_source(TITLE, path) if split == WHOLE and path.is_file() else None

"""COCO as published: `annotations/instances_train2017.json` and `train2017/`."""

from __future__ import annotations

import re
from pathlib import Path

from edge_mrcnn.data.layouts import SplitSource, names_of
from edge_mrcnn.data.layouts.coco_json import json_source

TITLE = "COCO as it is published (annotations/instances_train2017.json, train2017/)"


def find(root: Path, split: str) -> SplitSource | None:
    """The split of this name, of the latest year."""
    pattern = re.compile(rf"instances_({'|'.join(map(re.escape, names_of(split)))})\d{{4}}\.json")
    files = sorted((root / "annotations").glob("instances_*.json"), reverse=True)
    path = next((file for file in files if pattern.fullmatch(file.name)), None)
    return json_source(TITLE, path) if path else None

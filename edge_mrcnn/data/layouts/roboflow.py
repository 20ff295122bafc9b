"""Roboflow's "COCO": `train/_annotations.coco.json` beside the images, `valid/` and `test/` in the same way."""

from __future__ import annotations

from pathlib import Path

from edge_mrcnn.data.layouts import WHOLE, SplitSource, find_child, names_of
from edge_mrcnn.data.layouts.coco_json import read_tables

TITLE = "Roboflow's COCO export (train/_annotations.coco.json)"
FILE = "_annotations.coco.json"


def find(root: Path, split: str) -> SplitSource | None:
    """The split of this name."""
    folder = root if split == WHOLE else find_child(root, names_of(split))
    if folder is None or not (folder / FILE).is_file():
        return None
    return SplitSource(TITLE, folder / FILE, folder, root, read_tables)

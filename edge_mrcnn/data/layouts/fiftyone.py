"""FiftyOne's COCODetectionDataset: `labels.json` and `data/`, of all or of each split in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from edge_mrcnn.data.layouts import WHOLE, SplitSource, find_child, names_of
from edge_mrcnn.data.layouts.coco_json import read_tables

TITLE = "FiftyOne's COCO export (labels.json, data/)"


def find(root: Path, split: str) -> SplitSource | None:
    """The split of this name."""
    folder = root if split == WHOLE else find_child(root, names_of(split))
    if folder is None or not (folder / "labels.json").is_file() or not (folder / "data").is_dir():
        return None
    return SplitSource(TITLE, folder / "labels.json", folder / "data", folder, read_tables)

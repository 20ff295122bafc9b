"""Folder of the images of a COCO annotation file; shared by calibration, training and evaluation."""

from __future__ import annotations

from pathlib import Path


def image_folder(annotation_file: Path) -> Path:
    """`images/<split>` beside `annotations/`, else `<split>`, `images` or `data`, else the file's own folder."""
    split = annotation_file.stem.removeprefix("instances_")
    own_folder = annotation_file.parent
    root = own_folder.parent if own_folder.name == "annotations" else own_folder
    candidates = (root / "images" / split, root / split, root / "images", root / "data", own_folder)
    for folder in candidates:
        if folder.is_dir():
            return folder
    return candidates[0]  # it does not exist either, but the error names it as the expected folder

"""Shared by the layouts without COCO JSON: lists of images, and COCO tables of their content."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_mrcnn.data.files import read_shown_size

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def list_pictures(folder: Path) -> list[Path]:
    """Images under a folder, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.casefold() in SUFFIXES)


def image_row(number: int, path: Path, size_hw: tuple[int, int] | None = None) -> dict[str, Any]:
    """COCO's record of an image; its size is read from the file if not given, and absent if that fails."""
    row: dict[str, Any] = {"id": number, "file_name": str(path.absolute())}
    size = size_hw or read_shown_size(path)
    if size is not None:
        row["height"], row["width"] = size
    return row


def category_rows(names: Iterable[str]) -> list[dict[str, Any]]:
    """COCO's records of categories, numbered from 1."""
    return [{"id": number, "name": name} for number, name in enumerate(names, start=1)]

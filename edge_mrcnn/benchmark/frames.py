"""The pictures that every candidate is shown, one file each, so that a child holds one at a time as a camera does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from runtimes.errors import DataError
from runtimes.preprocess import read_image
from runtimes.sources import open_source

GENERATED_SIZE_HW = (480, 640)
"""Of pictures that are made up, in pixels: a webcam's."""


def save_frames(source: str | Sequence[Path] | None, count: int, folder: Path) -> list[Path]:
    """Store the first pictures of a source.

    Args:
        source: Camera, URL, video, image, folder or glob, or image files; pictures are made up if None.
        count: Pictures at most.
        folder: Where the files go; each is (H, W, 3) uint8 RGB.

    Raises:
        SourceError: If the source cannot be opened.
        DataError: If it gives no picture.
    """
    files: list[Path] = []
    for index, image in enumerate(_find_images(source, count)):
        files.append(folder / f"{index:04}.npy")
        np.save(files[-1], image)
    if not files:
        raise DataError(f"{source}: not one picture came")
    return files


def generate_frames(count: int) -> list[np.ndarray]:
    """Pictures of coloured noise, coarse and fine as photographs are, (H, W, 3) uint8 RGB; always the same ones."""
    rng = np.random.default_rng(0)
    return [_noise(rng) for _ in range(count)]


def _noise(rng: np.random.Generator) -> np.ndarray:
    height, width = GENERATED_SIZE_HW
    picture = np.full((height, width, 3), 110, np.float32)
    for cells in (4, 16, 64):
        grid = rng.normal(0, 45, (cells, cells, 3)).astype(np.float32)
        picture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _find_images(source: str | Sequence[Path] | None, count: int) -> Iterator[np.ndarray]:
    """Pictures one by one, (H, W, 3) uint8 RGB each."""
    if source is None:
        yield from generate_frames(count)
    elif isinstance(source, str):
        with closing(iter(open_source(source))) as frames:
            yield from (frame.image for frame in islice(frames, count))
    else:
        yield from map(read_image, source[:count])

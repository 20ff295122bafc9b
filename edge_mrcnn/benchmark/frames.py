"""The images for all candidates, one file each, so that a process holds one at a time as with a camera."""

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
"""Size of generated images, in pixels: that of a webcam."""


def save_frames(source: str | Sequence[Path] | None, count: int, folder: Path) -> list[Path]:
    """Store the first images of a source.

    Args:
        source: Camera, URL, video, image, folder or glob, or image files; generated images if None.
        count: Maximum number of images.
        folder: Folder for the files; each is (H, W, 3) uint8 RGB.

    Raises:
        SourceError: If the source cannot be opened.
        DataError: If it gives no image.
    """
    files: list[Path] = []
    for index, image in enumerate(_find_images(source, count)):
        files.append(folder / f"{index:04}.npy")
        np.save(files[-1], image)
    if not files:
        raise DataError(f"{source}: no image could be read")
    return files


def generate_frames(count: int) -> list[np.ndarray]:
    """Images of coloured noise at coarse and fine scales, as in photographs, (H, W, 3) uint8 RGB; always the same."""
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
    """The images one by one, (H, W, 3) uint8 RGB each."""
    if source is None:
        yield from generate_frames(count)
    elif isinstance(source, str):
        with closing(iter(open_source(source))) as frames:
            yield from (frame.image for frame in islice(frames, count))
    else:
        yield from map(read_image, source[:count])

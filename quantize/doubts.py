"""Checks of a calibration set: too few images, plain or dark ones, copies, masks instead of photographs.

INT8 ranges depend on the images, and no later step detects bad ones: a model calibrated on black images runs, and
detects nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from quantize.calibration import CalibrationSet
from runtimes.errors import DataError
from runtimes.preprocess import read_image

FEW = 32
"""Minimum number of images; ranges from fewer are exceeded by the next image."""
ADVISED = "100 to 300 images like those of the camera"
PLAIN_DEVIATION = 2.0
"""Standard deviation of grey values below which an image is plain."""
DARK = 24
"""Brightest value of a nearly black image; with 12 bits in a 16-bit file it is 15."""
MASK_VALUES = 16
"""Number of colours above which an image is a photograph; label images have fewer."""
STEP = 4
"""Only every so many pixels of each axis are used, for small images all."""
SMALL = 48
"""Images with a shorter side below this are thumbnails: enlarged to the input they have no sharp edges."""
THUMB = 16
"""Side of the grey thumbnails for finding copies."""
ALIKE = 1.5
"""Mean difference of grey values, of 255, below which two thumbnails are the same."""

KINDS = {
    "plain": "one plain colour",
    "dark": "nearly black (12 bits stored in 16?)",
    "mask": "masks rather than photographs",
    "small": "thumbnails",
    "copy": "nearly identical to another one",
}
"""Kind of a useless image -> description."""

logger = logging.getLogger(__name__)


def check_pictures(calibration: CalibrationSet, limit: int, seed: int) -> None:
    """Check the images that will be used; warn about useless ones.

    Args:
        calibration: The set.
        limit: Maximum number of images that are used.
        seed: Random seed of their choice.

    Raises:
        DataError: If all of them are plain or black.
    """
    files = calibration.choose(limit, seed)
    kinds = Counter(kind for kind in _kinds_of(files) if kind)
    useless = sum(kinds.values())
    described = _describe(kinds)
    if kinds["plain"] + kinds["dark"] == len(files):
        raise DataError(
            f"{calibration.path}: of {len(files)} calibration images {described}, so no ranges can be measured; "
            f"use {ADVISED}"
        )
    if useless:
        logger.warning("%s: of %d calibration images %s", calibration.path, len(files), described)
    useful = len(files) - useless
    if useful < FEW:
        images = "1 image is" if useful == 1 else f"{useful} images are"
        logger.warning("%s: %s too few for calibration; use %s", calibration.path, images, ADVISED)


def kind_of(image: NDArray[np.uint8]) -> str:
    """Problem of a (h, w, 3) uint8 image: a key of `KINDS`, or "" for a photograph."""
    shorter = min(image.shape[:2])
    step = min(STEP, max(1, shorter // THUMB))
    sample = image[::step, ::step].reshape(-1, 3)
    if sample.max() <= DARK:
        return "dark"
    if sample.mean(axis=1).std() < PLAIN_DEVIATION:
        return "plain"
    if len(np.unique(sample, axis=0)) <= MASK_VALUES:
        return "mask"
    return "small" if shorter < SMALL else ""


def _kinds_of(files: Sequence[Path]) -> Iterator[str]:
    """The problem of each image in turn; the first of several copies has none."""
    seen = np.zeros((0, THUMB, THUMB), np.float32)
    for file in files:
        image = read_image(file)
        kind = kind_of(image)
        if not kind:
            thumb = cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA).mean(axis=2, dtype=np.float32)
            differences = np.abs(seen - thumb).mean(axis=(1, 2))
            if differences.min(initial=np.inf) < ALIKE:
                kind = "copy"
            seen = np.concatenate([seen, thumb[None]])
        yield kind


def _describe(kinds: Counter[str]) -> str:
    parts: Iterable[str] = (f"{count} are {KINDS[kind]}" for kind, count in kinds.items())
    return ", ".join(parts)

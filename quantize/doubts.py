"""What speaks against a calibration set: too few pictures, plain or dark ones, masks among photographs.

INT8 ranges are as good as the pictures that they are measured on, and nothing later says that they were not: a model
calibrated on black pictures runs, and finds nothing.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.calibration import CalibrationSet
from runtimes.errors import DataError
from runtimes.preprocess import read_image

FEW = 32
"""Fewer pictures than this give ranges that the next picture leaves."""
ADVISED = "100 to 300 of what the camera will see"
PLAIN_DEVIATION = 2.0
"""Standard deviation of grey values below which a picture shows nothing."""
DARK = 24
"""Brightest value of a picture that is as good as black; of 12 bits in a 16-bit file it is 15."""
MASK_VALUES = 16
"""A photograph has more different colours than this, a picture of labels has fewer."""
STEP = 4
"""Every so many pixels of each axis are looked at."""

KINDS = {
    "plain": "one plain colour",
    "dark": "nearly black (12 bits stored in 16?)",
    "mask": "masks rather than photographs",
}
"""Kind of a picture that measures nothing -> what it is, in words."""

logger = logging.getLogger(__name__)


def check_pictures(calibration: CalibrationSet, limit: int, seed: int) -> None:
    """Look at the pictures that will be used; warn of those that measure nothing.

    Args:
        calibration: The set.
        limit: Pictures that are used at most.
        seed: Which of them.

    Raises:
        DataError: If all of them are of one colour or black.
    """
    files = calibration.choose(limit, seed)
    kinds = Counter(kind for kind in map(_kind_of_file, files) if kind)
    useless = sum(kinds.values())
    described = _describe(kinds)
    if kinds["plain"] + kinds["dark"] == len(files):
        raise DataError(
            f"{calibration.path}: of {len(files)} calibration pictures {described}: no range can be measured on them; "
            f"give {ADVISED}"
        )
    if useless:
        logger.warning("%s: of %d calibration pictures %s", calibration.path, len(files), described)
    if len(files) - useless < FEW:
        pictures = "1 picture is" if len(files) == 1 else f"{len(files)} pictures are"
        logger.warning("%s: %s few to calibrate with; give %s", calibration.path, pictures, ADVISED)


def kind_of(image: NDArray[np.uint8]) -> str:
    """What speaks against a (h, w, 3) uint8 picture: a key of `KINDS`, or "" for a photograph."""
    sample = image[::STEP, ::STEP].reshape(-1, 3)
    if sample.max() <= DARK:
        return "dark"
    if sample.mean(axis=1).std() < PLAIN_DEVIATION:
        return "plain"
    if len(np.unique(sample, axis=0)) <= MASK_VALUES:
        return "mask"
    return ""


def _kind_of_file(file: Path) -> str:
    return kind_of(read_image(file))


def _describe(kinds: Counter[str]) -> str:
    parts: Iterable[str] = (f"{count} are {KINDS[kind]}" for kind, count in kinds.items())
    return ", ".join(parts)

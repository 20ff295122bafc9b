"""What speaks against a calibration set: too few pictures, plain or dark ones, copies, masks among photographs.

INT8 ranges are as good as the pictures that they are measured on, and nothing later says that they were not: a model
calibrated on black pictures runs, and finds nothing.
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
"""Fewer pictures than this give ranges that the next picture leaves."""
ADVISED = "100 to 300 of what the camera will see"
PLAIN_DEVIATION = 2.0
"""Standard deviation of grey values below which a picture shows nothing."""
DARK = 24
"""Brightest value of a picture that is as good as black; of 12 bits in a 16-bit file it is 15."""
MASK_VALUES = 16
"""A photograph has more different colours than this, a picture of labels has fewer."""
STEP = 4
"""Every so many pixels of each axis are looked at, of small pictures all."""
SMALL = 48
"""Pictures with a shorter side are thumbnails: enlarged to the input they have no edges."""
THUMB = 16
"""Side of the small grey pictures by which copies are found."""
ALIKE = 1.5
"""Mean difference of grey values, of 255, below which two small pictures are the same."""

KINDS = {
    "plain": "one plain colour",
    "dark": "nearly black (12 bits stored in 16?)",
    "mask": "masks rather than photographs",
    "small": "thumbnails",
    "copy": "nearly the same as another one",
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
    kinds = Counter(kind for kind in _kinds_of(files) if kind)
    useless = sum(kinds.values())
    described = _describe(kinds)
    if kinds["plain"] + kinds["dark"] == len(files):
        raise DataError(
            f"{calibration.path}: of {len(files)} calibration pictures {described}: no range can be measured on them; "
            f"give {ADVISED}"
        )
    if useless:
        logger.warning("%s: of %d calibration pictures %s", calibration.path, len(files), described)
    useful = len(files) - useless
    if useful < FEW:
        pictures = "1 picture is" if useful == 1 else f"{useful} pictures are"
        logger.warning("%s: %s few to calibrate with; give %s", calibration.path, pictures, ADVISED)


def kind_of(image: NDArray[np.uint8]) -> str:
    """What speaks against a (h, w, 3) uint8 picture: a key of `KINDS`, or "" for a photograph."""
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
    """The kind of each picture in turn; the first of several copies is none."""
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

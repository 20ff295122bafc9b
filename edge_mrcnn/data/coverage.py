"""What each image of a data set adds to a calibration set, and whether two splits share images."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from edge_mrcnn.data.coco import CocoData, CocoImage
from quantize.picking import CalibrationCandidate, light_of, read_gray
from runtimes.errors import DataError

SMALL, LARGE = 32**2, 96**2
"""Areas in square pixels between COCO's small, medium and large objects."""
CROWD = 10
"""Objects from which on an image counts as crowded."""
POOL = 20
"""Images that are looked at for each one that is picked, at most."""


def candidates(data: CocoData, count: int, seed: int = 0) -> list[CalibrationCandidate]:
    """Images of a data set with what they show; of a large one a sample of `POOL` times the count.

    Raises:
        ImageError: If one cannot be decoded.
    """
    order = np.random.default_rng(seed).permutation(len(data.images))[: POOL * count]
    return [describe(data, data.images[index]) for index in sorted(order)]


def describe(data: CocoData, image: CocoImage) -> CalibrationCandidate:
    """One image with its facets: light, classes, sizes of objects, how many."""
    objects = [annotation for annotation in data.annotations(image.id) if not annotation["iscrowd"]]
    facets = {light_of(read_gray(image.path))}
    facets |= {f"class {data.categories[annotation['category_id']]}" for annotation in objects}
    facets |= {_size(annotation["area"]) for annotation in objects}
    if not objects:
        facets.add("nothing in it")
    if len(objects) >= CROWD:
        facets.add("crowded")
    return CalibrationCandidate(image.path, frozenset(facets), f"{data.path.name}, image {image.id}")


def _size(area: float) -> str:
    return "small object" if area < SMALL else "medium object" if area < LARGE else "large object"


def refuse_shared(files: Iterable[Path], others: CocoData) -> None:
    """Make sure that no file is an image of another split, by content.

    Raises:
        DataError: If one is; what is measured on that split would flatter the model.
    """
    shared = sorted(set(_shared(files, [image.path for image in others.images])))
    if shared:
        raise DataError(
            f"{len(shared)} of the images to calibrate on are in {others.path} too, such as {shared[0].name}: "
            "calibrate on the training split, and take copies out of one of the two"
        )


def _shared(files: Iterable[Path], others: list[Path]) -> Iterator[Path]:
    by_length: dict[int, list[Path]] = defaultdict(list)
    for other in others:
        if other.is_file():
            by_length[other.stat().st_size].append(other)
    for file in files:
        equals = by_length.get(file.stat().st_size, [])
        if equals and _digest(file) in map(_digest, equals):
            yield file


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

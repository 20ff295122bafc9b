"""What each image contributes to a calibration set, and whether two splits share images."""

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
"""Number of objects from which an image counts as crowded."""
POOL = 20
"""Maximum number of images that are examined for each selected one."""


def candidates(data: CocoData, count: int, seed: int = 0) -> list[CalibrationCandidate]:
    """Images of a data set with their facets; for a large data set, a sample of `POOL` times the count.

    Raises:
        ImageError: If one cannot be decoded.
    """
    order = np.random.default_rng(seed).permutation(len(data.images))[: POOL * count]
    return [describe(data, data.images[index]) for index in sorted(order)]


def describe(data: CocoData, image: CocoImage) -> CalibrationCandidate:
    """One image with its facets: brightness, classes, object sizes, number of objects."""
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
    """Check that no file is also an image of another split, by content.

    Raises:
        DataError: If one is: results on that split would be too good.
    """
    shared = sorted(set(_shared(files, [image.path for image in others.images])))
    if shared:
        raise DataError(
            f"{len(shared)} calibration images are also in {others.path}, such as {shared[0].name}: calibrate on the "
            "training split, and remove copies from one of the two"
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

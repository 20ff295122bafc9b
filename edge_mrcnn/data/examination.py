"""Check of all image files before the first step: only headers, so that a bad file at the end is found at once."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import replace

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.data.copies import CheckedImage, find_leaks
from edge_mrcnn.data.faults import FAULTS, Place
from edge_mrcnn.data.files import inspect_files
from edge_mrcnn.data.loading import tell_mended
from edge_mrcnn.tables import counted
from runtimes.errors import DataError
from runtimes.progress import Progress, silent

log = logging.getLogger(__name__)


def examine_split(data: CocoData, split: str, progress: Progress = silent) -> list[CheckedImage]:
    """Check the file of each image of a split.

    Raises:
        DataError: If files are missing, damaged, or of another size than annotated.
    """
    pictures = []
    faults: dict[str, list[Place]] = defaultdict(list)
    files = inspect_files(list(data.images), decode=False, thumbs=False)
    for image, file in zip(data.images, files, strict=True):
        picture = CheckedImage(split, image, file)
        pictures.append(picture)
        if file.fault:
            faults[file.fault].append(picture.place(file.detail))
        progress(f"checked files of {split}", len(pictures), len(data.images))
    _refuse(data, faults)
    tell_mended(data.path, [(name, place) for name, places in faults.items() for place in places])
    return pictures


def _refuse(data: CocoData, faults: dict[str, list[Place]]) -> None:
    for name, fault in FAULTS.items():
        places = faults.get(name)
        if places and fault.severity == "error":
            raise DataError(f"{data.path}: {len(places)} x {fault.title}, such as {places[0]}; {fault.advice}")


def without_leaks(validation: CocoData, training: list[CheckedImage], own: list[CheckedImage]) -> CocoData:
    """The validation split without images of the training split; logs their number.

    Args:
        validation: The split.
        training: Images of the training split.
        own: Images of the validation split.

    Raises:
        DataError: If none is left.
    """
    leaks = find_leaks(training, own)
    if not leaks:
        return validation
    if len(leaks) == len(own):
        raise DataError(f"{validation.path}: all of its images are also in the training split; expected other images")
    log.warning(
        "%s: %s also in the training split, such as %s: left out of validation, where it would raise the AP",
        validation.path.name, counted(len(leaks), "image is", "images are"), leaks[0].image.path.name,
    )  # fmt: skip
    leaked = {picture.image.id for picture in leaks}
    return replace(validation, images=tuple(image for image in validation.images if image.id not in leaked))

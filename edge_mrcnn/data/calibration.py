"""Calibration images from any path that a user gives."""

from __future__ import annotations

from pathlib import Path

from edge_mrcnn.data.loading import is_data_set, load
from quantize.calibration import MANIFEST_NAME, CalibrationSet


def load_calibration(path: str | Path) -> CalibrationSet:
    """A folder of images, a manifest or COCO data; for a data set in any layout, its training images.

    Raises:
        MissingFileError, DataError: As `CalibrationSet.load` and `data.load` do.
    """
    folder = Path(path)
    own_lists = (folder / MANIFEST_NAME, folder / "annotations" / "instances_train.json")
    is_listed = any(file.is_file() for file in own_lists)
    if is_listed or not folder.is_dir() or not is_data_set(folder):
        return CalibrationSet.load(path)
    data = load(path, "train")
    return CalibrationSet.of_files(folder, [image.path for image in data.images])

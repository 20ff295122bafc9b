"""Checks before the first step, so that a long training does not fail late."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.data.examination import examine_split, without_leaks
from edge_mrcnn.evaluation.evaluate import match_categories
from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.reference import make_card
from edge_mrcnn.train.callbacks import CHECKPOINT_STATE
from edge_mrcnn.train.task import MaskRCNNTask
from runtimes.errors import DataError, ModelFileError, UsageError
from runtimes.progress import Progress, silent

log = logging.getLogger(__name__)


def check_data(
    checkpoint: Checkpoint, data: CocoData, validation: CocoData | None, *, progress: Progress = silent
) -> CocoData | None:
    """Check data and model before a training; the header of every image is read.

    Args:
        checkpoint: The model with its classes.
        data: Training images.
        validation: Images for AP.
        progress: Called with the number of files checked.

    Returns:
        The validation data: without training images, and None if no object is left.

    Raises:
        DataError: If a category has no object, an image is missing, damaged or of another size, or model and data have
            different classes.
    """
    _check_classes(checkpoint, data)
    if validation is not None:
        match_categories(make_card(checkpoint), validation.categories)
    training = examine_split(data, "train", progress)
    if validation is None:
        return None
    pictures = examine_split(validation, "val", progress)
    validation = without_leaks(validation, training, pictures)
    if not any(validation.annotations(image.id) for image in validation.images):
        log.warning(
            "%s: no validation objects: there is no AP, and the last weights are saved as the best", validation.path
        )
        return None
    return validation


def _check_classes(checkpoint: Checkpoint, data: CocoData) -> None:
    if not any(not a["iscrowd"] for image in data.images for a in data.annotations(image.id)):
        hint = "; --learn-crowds trains on its crowd regions" if _has_crowds(data) else ""
        raise DataError(f"{data.path}: no object has a usable outline, so there is nothing to train on{hint}")
    empty = [data.categories[category] for category, count in data.count_objects().items() if not count]
    if empty:
        raise DataError(
            f"{data.path}: no object of category {', '.join(empty[:5])}: remove the category, or add objects of it"
        )
    if data.classes != checkpoint.classes:
        raise DataError(
            f"the model has classes {checkpoint.classes[:5]}, the data {data.classes[:5]}; use the same classes, or "
            "give those of an imported model with --classes"
        )


def hash_data(data: CocoData) -> str:
    """SHA-256 of the content of a data set: names and sizes of images, categories, boxes and areas of objects.

    It does not depend on the location of the data or the format that it was read from.
    """
    digest = hashlib.sha256(json.dumps(list(data.categories.items())).encode())
    for image in data.images:
        objects = [(a["category_id"], a["bbox"], a["area"], a["iscrowd"]) for a in data.annotations(image.id)]
        digest.update(json.dumps([image.path.name, image.width, image.height, objects], default=float).encode())
    return digest.hexdigest()


def check_same_data(path: Path, earlier: str | None, now: str) -> None:
    """Check that a resumed training uses the same data.

    Args:
        path: The resume file, for messages.
        earlier: Result of `hash_data` at the start; files of older versions have none, and are not checked.
        now: Result of `hash_data` for the current data.

    Raises:
        UsageError: If they differ.
    """
    if earlier is not None and earlier != now:
        raise UsageError(
            f"--resume: {path} was trained on other data (hash {earlier[:12]}, now {now[:12]}); use the same data, or "
            "start another training with --weights"
        )


def _has_crowds(data: CocoData) -> bool:
    return any(annotation["iscrowd"] for objects in data.by_image.values() for annotation in objects)


def check_resume(path: Path, task: MaskRCNNTask, classes: tuple[str, ...]) -> int:
    """Check that a file is the resume file of a training with the same model, classes and data.

    Returns:
        The number of finished epochs.

    Raises:
        UsageError: If it is missing, of another model, classes or data, or has all the epochs already.
        ModelFileError: If it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"--resume: {path} not found; start without --resume")
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
        done, state = record["epoch"] + 1, record["state_dict"]
    except Exception as error:  # torch raises half a dozen types for a damaged file
        raise ModelFileError(
            f"{path}: not a readable training state ({type(error).__name__}); start without --resume"
        ) from error
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in task.state_dict().items()}:
        raise UsageError(f"--resume: {path} has another model; use the options of the first start")
    _check_resumed_classes(path, record, classes)
    check_same_data(path, record.get("data_sha256"), task.data_sha256)
    if done >= task.config.epochs:
        raise UsageError(f"--resume: {path} has {done} epochs already; give more --epochs to continue")
    return int(done)


def _check_resumed_classes(path: Path, record: dict[str, Any], classes: tuple[str, ...]) -> None:
    """The order matters as well: a row of the predictors is a class. Files of older versions do not have it."""
    state = record.get("callbacks", {}).get(CHECKPOINT_STATE, {})
    known = tuple(state.get("classes", classes))
    if known != classes:
        raise UsageError(
            f"--resume: {path} was trained on the classes {', '.join(known[:5])}, the data has "
            f"{', '.join(classes[:5])}, in this order; use the data of the first start"
        )

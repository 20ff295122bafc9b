"""What has to be right before the first step, so that a long training does not end in a surprise."""

from __future__ import annotations

from pathlib import Path

import torch

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.evaluate import match_categories
from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.reference import make_card
from edge_mrcnn.train.task import MaskRCNNTask
from runtimes.errors import DataError, ModelFileError, UsageError


def check_data(checkpoint: Checkpoint, data: CocoData, validation: CocoData | None) -> None:
    """See to it that no epoch is trained in vain.

    Raises:
        DataError: If a category has no object, a picture is missing, or model and data differ in their classes.
    """
    counts = dict.fromkeys(data.category_ids, 0)
    for image in data.images:
        for annotation in data.annotations(image.id):
            counts[annotation["category_id"]] += not annotation["iscrowd"]
    empty = [data.categories[category] for category, count in counts.items() if not count]
    if len(empty) == len(counts):
        raise DataError(f"{data.path}: no object has a usable outline, there is nothing to learn")
    if empty:
        raise DataError(
            f"{data.path}: no object of category {', '.join(empty[:5])}: remove the category, or add objects of it"
        )
    if data.classes != checkpoint.classes:
        raise DataError(
            f"the model has classes {checkpoint.classes[:5]}, the data {data.classes[:5]}; use the same ones"
        )
    if validation:
        match_categories(make_card(checkpoint), validation.categories)
    for split in filter(None, (data, validation)):
        missing = [image.path for image in split.images if not image.path.is_file()]
        if missing:
            raise DataError(f"{split.path}: {len(missing)} image files are missing, such as {missing[0]}")


def check_resume(path: Path, task: MaskRCNNTask) -> None:
    """See to it that a file is what an interrupted training of the same model left.

    Raises:
        UsageError: If it is missing, of another model, or has all the epochs that are asked for.
        ModelFileError: If it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"--resume: {path} is not there; start without it")
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
        done, state = record["epoch"] + 1, record["state_dict"]
    except Exception as error:  # torch raises half a dozen types for a damaged file
        raise ModelFileError(f"{path}: not a readable training state ({type(error).__name__}); start afresh") from error
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in task.state_dict().items()}:
        raise UsageError(f"--resume: {path} holds another model; give the options that it was started with")
    if done >= task.config.epochs:
        raise UsageError(f"--resume: {path} has {done} epochs, as many as asked for; give more --epochs to go on")

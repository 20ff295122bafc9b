"""The teacher of a training, and training data with its pseudo-labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_mrcnn.cli.options import load_split, make_progress, val_split
from edge_mrcnn.cli.origin import given_origin
from edge_mrcnn.config import PseudoLabelConfig, TrainConfig, preset
from runtimes.errors import DataError, UsageError

if TYPE_CHECKING:
    from edge_mrcnn.data.coco import CocoData
    from edge_mrcnn.model.checkpoint import Checkpoint

TRAINING_SET, VALIDATION_SET = "training_set.json", "validation_set.json"
"""COCO files that a training with pseudo-labels keeps in its folder."""
HOLD_OUT = 10
"""Without labelled data, one of every 10 images is held out for validation."""


def load_teacher(values: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint of --teacher, at the input size of --teacher-imgsz.

    Raises:
        UsageError: If an option needs a teacher and there is none.
    """
    if not values["teacher"]:
        needing = [name for name in ("unlabelled", "pseudo_masks", "teacher_imgsz") if values[name]]
        if needing:
            raise UsageError(f"--{needing[0].replace('_', '-')} needs --teacher CHECKPOINT")
        return None
    from edge_mrcnn.model.checkpoint import load_checkpoint, resize_input
    from edge_mrcnn.train.distillation import expect_same_shape

    teacher = load_checkpoint(values["teacher"], given_origin())
    if values["teacher_imgsz"]:
        teacher = resize_input(teacher, values["teacher_imgsz"])
    if not values["weights"]:  # checked before an hour of labelling, if the student's input size is already known
        student = preset(values["model"] or "nano").updated(image_size_hw=values["image_size_hw"])
        expect_same_shape(teacher.config.image_size_hw, student.image_size_hw)
    return teacher


def gather_data(
    values: dict[str, Any],
    config: TrainConfig,
    pseudo: PseudoLabelConfig,
    teacher: Checkpoint | None,
    output: Path,
) -> tuple[CocoData, CocoData | None]:
    """The training and validation data.

    Training data with pseudo-labels is written to the output folder first. A resumed training and the processes of
    further devices read it from there.
    """
    data, val, learn_crowds = values["data"], values["val"], config.learn_crowds
    if not (values["unlabelled"] or pseudo.pseudo_masks):
        return load_split(data, "train", learn_crowds=learn_crowds), val_split(data, val, learn_crowds=learn_crowds)
    from edge_mrcnn.data.loading import load

    is_made = values["resume"] or os.environ.get("LOCAL_RANK", "0") != "0"
    if not is_made:
        assert teacher is not None
        Labelling(teacher, pseudo, values["device"], output).write(data, values["unlabelled"], learn_crowds)
    training = load(output / TRAINING_SET, "train", learn_crowds=learn_crowds)
    if data or val:
        return training, val_split(data or val, val, learn_crowds=learn_crowds)
    return training, load(output / VALIDATION_SET, "val")


class Labelling:
    """Labels images with a teacher, and prints how many objects it found."""

    def __init__(self, teacher: Checkpoint, config: PseudoLabelConfig, device: str, output: Path) -> None:
        """
        Args:
            teacher: The model.
            config: Score thresholds.
            device: Device of the teacher.
            output: Folder for the data sets.
        """
        from edge_mrcnn.reference import TorchRuntime

        self.teacher = teacher
        self.runtime = TorchRuntime(teacher, device=device)
        self.config = config
        self.output = output

    def write(self, data: str | None, unlabelled: tuple[str, ...], learn_crowds: bool) -> None:
        """Write the training data, and without labelled data also the validation data.

        Raises:
            DataError: If no detection of the teacher reaches the score threshold.
        """
        from edge_mrcnn.data.writing import write_data
        from quantize import CalibrationSet

        files = [file for path in unlabelled for file in CalibrationSet.load(path).files]
        if data is None:
            write_data(self._label(self._nothing(), files[::HOLD_OUT]), self.output / VALIDATION_SET)
            del files[::HOLD_OUT]
            labelled = self._nothing()
        else:
            labelled = load_split(data, "train", learn_crowds=learn_crowds)
            self._expect_known(labelled)
        if self.config.pseudo_masks:
            labelled = self._outline(labelled)
        labelled = self._label(labelled, files) if files else labelled
        if not any(labelled.count_objects().values()):
            raise DataError(
                f"--unlabelled: the teacher found no object with a score of --pseudo-score "
                f"{self.config.pseudo_score} or more in {len(files)} images; lower it, or use other images"
            )
        write_data(labelled, self.output / TRAINING_SET)

    def _nothing(self) -> CocoData:
        """An empty data set with the teacher's classes."""
        from edge_mrcnn.data.coco import CocoData

        categories = dict(zip(self.teacher.category_ids, self.teacher.classes, strict=True))
        return CocoData(self.output / TRAINING_SET, (), dict(sorted(categories.items())), {})

    def _expect_known(self, data: CocoData) -> None:
        from edge_mrcnn.train.distillation import expect_known

        expect_known(self.teacher.classes, data.classes)

    def _label(self, data: CocoData, files: list[Path]) -> CocoData:
        from edge_mrcnn.train.pseudo_labels import label_frames

        labelled = label_frames(self.runtime, data, files, self.config, progress=make_progress())
        used = labelled.asked - labelled.left_out
        click.echo(
            f"{self.teacher.config.name} labelled {labelled.kept} objects in {used} of {len(files)} images; "
            f"{labelled.left_out} images with only uncertain detections are left out",
            err=True,
        )
        return labelled.data

    def _outline(self, data: CocoData) -> CocoData:
        from edge_mrcnn.train.pseudo_labels import outline_boxes

        labelled = outline_boxes(self.runtime, data, self.config, progress=make_progress())
        click.echo(
            f"{self.teacher.config.name} added masks to {labelled.kept} of {labelled.asked} boxes; "
            f"{labelled.left_out} do not agree with its mask and are trained on as boxes only",
            err=True,
        )
        return labelled.data

"""The teacher of a training, and the data that is trained on with its labels."""

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
"""COCO files that a training with labels of a teacher leaves in its folder."""
HOLD_OUT = 10
"""Without labelled data one of so many pictures is for validation."""


def load_teacher(values: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint of --teacher, at the input that was asked for.

    Raises:
        UsageError: If something is asked of a teacher that is not named.
    """
    if not values["teacher"]:
        needing = [name for name in ("unlabelled", "pseudo_masks", "teacher_imgsz") if values[name]]
        if needing:
            raise UsageError(f"--{needing[0].replace('_', '-')} needs --teacher, a checkpoint whose answers are learnt")
        return None
    from edge_mrcnn.model.checkpoint import load_checkpoint, resize_input
    from edge_mrcnn.train.distillation import expect_same_shape

    teacher = load_checkpoint(values["teacher"], given_origin())
    if values["teacher_imgsz"]:
        teacher = resize_input(teacher, values["teacher_imgsz"])
    if not values["weights"]:  # said before an hour of labelling, where the student's input is known already
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
    """What to train and to validate on.

    With labels of a teacher, what is trained on is written into the output folder first; a training that is resumed,
    and the processes of further devices, read it from there.
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
    """A teacher that labels pictures, and tells what came of it."""

    def __init__(self, teacher: Checkpoint, config: PseudoLabelConfig, device: str, output: Path) -> None:
        """
        Args:
            teacher: The model.
            config: What counts as sure.
            device: It runs on.
            output: Folder for the data sets.
        """
        from edge_mrcnn.reference import TorchRuntime

        self.teacher = teacher
        self.runtime = TorchRuntime(teacher, device=device)
        self.config = config
        self.output = output

    def write(self, data: str | None, unlabelled: tuple[str, ...], learn_crowds: bool) -> None:
        """Write what is trained on, and without labelled data also what is validated on.

        Raises:
            DataError: If the teacher is sure of nothing.
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
                f"--unlabelled: of {len(files)} pictures the teacher is sure of no object; --pseudo-score "
                f"{self.config.pseudo_score} is what counts as sure"
            )
        write_data(labelled, self.output / TRAINING_SET)

    def _nothing(self) -> CocoData:
        """A data set of the teacher's classes without a picture."""
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
            f"{self.teacher.config.name} labelled {labelled.kept} objects in {used} of {len(files)} pictures; "
            f"{labelled.left_out} are left out, in which it is sure of nothing",
            err=True,
        )
        return labelled.data

    def _outline(self, data: CocoData) -> CocoData:
        from edge_mrcnn.train.pseudo_labels import outline_boxes

        labelled = outline_boxes(self.runtime, data, self.config, progress=make_progress())
        click.echo(
            f"{self.teacher.config.name} outlined {labelled.kept} of {labelled.asked} boxes; on {labelled.left_out} "
            "it does not agree with the box, which trains no mask",
            err=True,
        )
        return labelled.data

"""`edge-mrcnn shrink`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli.fields import SectionedCommand
from edge_mrcnn.cli.options import make_progress, name_next
from edge_mrcnn.cli.origin import given_origin
from edge_mrcnn.cli.train import SECTIONS, Trained, is_first_process, run_training, training_options
from edge_mrcnn.config import TrainConfig
from edge_mrcnn.model.importers.origin import Origin
from runtimes.errors import UsageError

FIRST = ("teacher", "teacher_imgsz", "data", "unlabelled", "val", "pseudo_masks", "model")
"""Options that come first in the help."""


def _sections() -> dict[str, tuple[str, ...]]:
    """The sections of `train`, with the options of the teacher first."""
    sections = {}
    for heading, names in SECTIONS.items():
        sections[heading] = tuple(name for name in names if name not in FIRST)
    sections["Options"] = FIRST + sections["Options"]
    return sections


@click.command(cls=SectionedCommand, sections=_sections())
@training_options(model="nano-dense", output="runs/shrink", needs_data=False)
def command(**values: Any) -> None:
    """Train a light model for your camera from a heavy teacher, and compare the two.

    The light model learns from your labels, if you have any, from the teacher's pseudo-labels on unlabelled images,
    and by distillation on both. At the end, a report compares both models on the validation split.

    \b
    edge-mrcnn shrink --teacher model_final.pth --data DIR --unlabelled frames -o runs/shrink
    """
    if not values["teacher"]:
        raise UsageError("expected --teacher, the heavy checkpoint that the light model learns from")
    if not (values["data"] or values["unlabelled"]):
        raise UsageError(
            "expected --data with labelled images, --unlabelled with images for the teacher to label, or both"
        )
    trained = run_training(values)
    if not is_first_process():
        return
    click.echo(f"wrote {trained.best}")
    if trained.validation is None:
        click.echo("no validation split, so there is no report; make one with `edge-mrcnn report --data DIR`", err=True)
    else:
        limit = values["eval_limit"] or TrainConfig.eval_limit
        compare(trained, Path(values["teacher"]), values["device"], limit=limit)
    name_next("export", "--weights", trained.best, "--target", "onnx,openvino,tflite")


def compare(trained: Trained, teacher: Path, device: str, *, limit: int | None) -> None:
    """Measure student and teacher on the validation split, and write the report.

    Args:
        trained: The result of the training.
        teacher: The teacher's file.
        device: Device of both.
        limit: Maximum number of images.
    """
    from edge_mrcnn.report.comparison import CompareConfig, compare_models
    from edge_mrcnn.report.markdown import headline_table
    from edge_mrcnn.report.models import open_model
    from edge_mrcnn.report.writing import write_report

    assert trained.validation is not None
    data_sets = {trained.validation.path.stem: trained.validation}
    config = CompareConfig(title="Student and teacher", limit=limit, measures_memory=False)
    models = [open_model(path, device=device) for path in (_openable(trained, teacher), trained.best)]
    measured = compare_models(models, data_sets, config, progress=make_progress())
    folder = trained.output / "report"
    write_report(measured, data_sets, folder)
    click.echo("\n".join(headline_table(measured.comparison)))
    click.echo(f"wrote {folder / 'report.html'}, report.md, report.json, plots/")


def _openable(trained: Trained, teacher: Path) -> Path:
    """The teacher as a self-contained file: its own, or a converted one in the output folder."""
    from edge_mrcnn.model.checkpoint import load_checkpoint, save_checkpoint

    assert trained.teacher is not None
    is_as_it_was = given_origin() == Origin() and load_checkpoint(teacher).config == trained.teacher.config
    if is_as_it_was:
        return teacher
    own = trained.output / "teacher.pt"
    save_checkpoint(own, trained.teacher)
    return own

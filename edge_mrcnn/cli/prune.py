"""`edge-mrcnn prune`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli.fields import SectionedCommand, SizeHW, given, setting_options, write_options
from edge_mrcnn.cli.options import VAL_HELP, load_split, name_next, val_split
from edge_mrcnn.cli.origin import CLASSES_OPTION, given_origin
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from edge_mrcnn.config import TrainConfig
from edge_mrcnn.prune.fine_tuning import KEPT, fine_tuning
from edge_mrcnn.prune.settings import PruneConfig

UNSET = {
    **dict.fromkeys(KEPT, "as in training"),
    "lr": "half of that in training",
    "epochs": "4, shared by all iterations",
    "warmup_steps": "20",
}
"""Defaults for `--help`, in words."""

SECTIONS = {
    "Options": (
        "weights", "classes", "image_size_hw", "data", "val", "macs", "ratio", "latency_ms", "runtime", "threads",
        "sparsity", "epochs", "batch", "lr", "teacher", "iterations", "workers", "device", "resume", "output",
        "overwrite",
    ),
    "Channel selection": ("images", "least", "round_to"),
    "Fine-tuning": ("optimizer", "schedule", "warmup_steps", "freeze_norm", "backbone_lr_factor", "rois", "eval_every"),
}  # fmt: skip


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.option("--weights", required=True, type=click.Path(path_type=Path), help="Checkpoint to prune.")
@CLASSES_OPTION
@click.option("--imgsz", "image_size_hw", type=SizeHW(), help="Input size in pixels.  [default: the checkpoint's]")
@click.option(
    "--data",
    required=True,
    help="Data for ranking the channels and for fine-tuning: COCO JSON or a folder with a train split.",
)
@click.option("--val", help=VAL_HELP)
@click.option(
    "--iterations", type=int, default=1, show_default=True, help="Number of rounds of pruning and fine-tuning."
)
@click.option(
    "--teacher", type=click.Path(path_type=Path), help="Teacher checkpoint for distillation.  [default: --weights]"
)
@click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N.")
@click.option("--resume", is_flag=True, help="Resume an interrupted run in the output folder.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/prune"),
    show_default=True,
    help="Folder of the pruned checkpoint and logs.",
)
@overwrite_option
@setting_options(PruneConfig, TrainConfig, unset=UNSET, leave_out=("max_steps",))
def command(
    weights: Path, image_size_hw: tuple[int, int] | None, data: str, val: str | None, iterations: int,
    teacher: Path | None, device: str, resume: bool, output: Path, overwrite: bool, **values: Any,
) -> None:  # fmt: skip
    """Remove channels of a trained model until it meets a budget, and fine-tune it with the unpruned model as teacher.

    Options come from the command line first, then from the --config file, then from the model's own training. The
    options used are saved to config.toml in the output folder.

    \b
    edge-mrcnn prune --weights best.pt --data DIR --macs 0.65 --epochs 5
    """
    ctx = click.get_current_context()
    config = PruneConfig(**given(values, PruneConfig))
    if not resume:
        output = choose_output(output, [data, val, weights, teacher], overwrite=overwrite)
    from edge_mrcnn.model.checkpoint import load_checkpoint, resize_input
    from edge_mrcnn.prune.tuning import prune_and_train

    checkpoint = load_checkpoint(weights, given_origin())
    if image_size_hw:
        checkpoint = resize_input(checkpoint, image_size_hw)
    settings = fine_tuning(checkpoint.training.get("settings", {}), config.seed, **given(values, TrainConfig))
    training = load_split(data, "train", learn_crowds=settings.learn_crowds)
    used = {**ctx.params, **asdict(settings), **asdict(config)}
    write_options(output / "config.toml", ctx, used, "edge-mrcnn prune --config config.toml --output NEW_FOLDER")
    best = prune_and_train(
        checkpoint, training, output, config, settings,
        teacher=load_checkpoint(teacher, given_origin()) if teacher else None,
        validation=val_split(data, val, learn_crowds=settings.learn_crowds),
        iterations=iterations, resume=resume, device=device, say=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    click.echo(f"wrote {best}")
    name_next("export", "--weights", best, "--target", "onnx,openvino,tflite", "--int8", "--calib", data)

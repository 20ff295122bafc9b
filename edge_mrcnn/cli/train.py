"""`edge-mrcnn train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli.options import DATA_HELP, image_size, load_split, make_progress, name_next, val_split
from edge_mrcnn.config import PRESETS, TrainConfig, preset
from runtimes.errors import UsageError
from runtimes.progress import silent

DEFAULTS = TrainConfig()


@click.command()
@click.option("--data", required=True, help=DATA_HELP)
@click.option("--val", help="Data for the AP of each epoch [default: the folder's val split, if it has one].")
@click.option("--model", type=click.Choice(list(PRESETS)), default="nano", show_default=True, help="Preset.")
@click.option("--backbone", help="Another backbone, for --weights too: see `edge-mrcnn models`.")
@click.option("--backbone-weights", type=click.Path(), help="Local state dict of the backbone.")
@click.option("--pretrained", is_flag=True, help="Download ImageNet weights of the backbone.")
@click.option("--weights", type=click.Path(), help="Start from this checkpoint instead of a preset.")
@click.option("--imgsz", callback=image_size, help="Input size, S or HxW, in multiples of 64.")
@click.option("--epochs", type=int, default=DEFAULTS.epochs, show_default=True)
@click.option("--batch", type=int, default=DEFAULTS.batch, show_default=True, help="Images in a step on one device.")
@click.option("--lr", type=float, default=DEFAULTS.lr, help="Peak learning rate [default: by optimizer and batch].")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), default=DEFAULTS.optimizer, show_default=True)
@click.option("--schedule", type=click.Choice(["cosine", "step"]), default=DEFAULTS.schedule, show_default=True)
@click.option(
    "--clip-norm", type=float, default=DEFAULTS.clip_norm, show_default=True, help="Longest gradient; 0: any."
)
@click.option(
    "--freeze-stages",
    type=int,
    help="1: the stem; 2 to 5: strides 4 to 32 too; -1: the whole backbone [default: as --weights was trained, or 0].",
)
@click.option(
    "--freeze-norm/--no-freeze-norm",
    default=None,
    help="Keep the backbone's BatchNorm statistics [default: as --weights was trained, else no].",
)
@click.option("--backbone-lr-factor", type=float, default=1.0, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "32", "bf16", "16"]), default="auto", show_default=True)
@click.option("--channels-last", is_flag=True, help="Feature maps with channels last, for tensor cores (CUDA).")
@click.option("--compile", is_flag=True, help="Compile the backbone, where that is possible.")
@click.option("--teacher", type=click.Path(), help="Learn from the answers of this larger checkpoint too.")
@click.option(
    "--distill-maps",
    type=float,
    default=DEFAULTS.distill_maps,
    show_default=True,
    help="Weight of imitating the teacher's whole pyramid, for a backbone without published weights.",
)
@click.option("--rois", type=int, default=DEFAULTS.rois, show_default=True, help="Regions per image for the heads.")
@click.option(
    "--copy-paste", type=float, default=0.0, show_default=True, help="Share of images with objects of others."
)
@click.option("--learn-crowds", is_flag=True, help="Crowd regions are single objects, as brush tools mark them.")
@click.option("--workers", type=int, default=DEFAULTS.workers, show_default=True, help="Processes that load data.")
@click.option("--eval-every", type=int, default=1, show_default=True, help="Epochs between two evaluations.")
@click.option("--patience", type=int, default=0, help="Stop after so many evaluations without a better mask AP.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--devices", type=int, default=1, show_default=True, help="Processes on each node, one device each.")
@click.option("--nodes", type=int, default=1, show_default=True, help="Machines.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training in the output folder.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/train"), show_default=True)
def command(
    data: str, val: str | None, weights: str | None, output: Path, device: str, devices: int, nodes: int,
    resume: bool, model: str, backbone: str | None, backbone_weights: str | None, pretrained: bool,
    imgsz: tuple[int, int] | None, teacher: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Train a Mask R-CNN on COCO-format data."""
    config = TrainConfig(**settings)
    if pretrained and backbone_weights:
        raise UsageError("--pretrained and --backbone-weights exclude each other")
    if weights and not backbone and (pretrained or backbone_weights):
        raise UsageError("--weights keeps its own backbone: name another with --backbone, or give no weights for one")
    from edge_mrcnn.model.checkpoint import load_checkpoint
    from edge_mrcnn.train.loop import train
    from edge_mrcnn.train.start import continue_from, describe_frozen, exchange_backbone, keep_frozen, start_fresh

    training = load_split(data, "train", learn_crowds=config.learn_crowds)
    validation = val_split(data, val, learn_crowds=config.learn_crowds)
    if weights:
        checkpoint = continue_from(weights, training, imgsz)
        if backbone:
            checkpoint = exchange_backbone(
                checkpoint, backbone, seed=config.seed, pretrained=pretrained, backbone_weights=backbone_weights
            )
    else:
        parts = preset(model).updated(backbone=backbone, image_size_hw=imgsz)
        checkpoint = start_fresh(parts, training, config.seed, pretrained, backbone_weights)
    if _is_first_process():
        frozen = describe_frozen(keep_frozen(config, checkpoint))
        click.echo(f"{_headline(checkpoint, training, validation)}; {frozen}", err=True)
    best = train(
        checkpoint, training, output, config,
        validation=validation, device=device, devices=devices, nodes=nodes, resume=resume,
        teacher=load_checkpoint(teacher) if teacher else None,
        progress=make_progress() if _is_first_process() else silent,
    )  # fmt: skip
    if not _is_first_process():
        return
    click.echo(f"wrote {best}")
    name_next("export", "--weights", best, "--target", "onnx,openvino,tflite")


def _is_first_process() -> bool:
    """Lightning starts this command once more for each further device."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _headline(checkpoint: Any, training: Any, validation: Any) -> str:
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    objects = sum(training.count_objects().values())
    held_out = f"{len(validation.images)} for validation" if validation else "none for validation"
    size = "x".join(map(str, checkpoint.config.image_size_hw))
    return (
        f"{checkpoint.config.name} ({checkpoint.config.backbone}, {parameters / 1e6:.2f} M parameters, {size}) on "
        f"{len(training.images)} images with {objects} objects of {len(training.classes)} classes; {held_out}"
    )

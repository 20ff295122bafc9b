"""`edge-mrcnn train`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_mrcnn.cli.fields import (
    SectionedCommand,
    SizeHW,
    drop_from_file,
    given,
    is_typed,
    setting_options,
    write_options,
)
from edge_mrcnn.cli.options import DATA_HELP, VAL_HELP, make_progress, name_next
from edge_mrcnn.cli.origin import CLASSES_OPTION, given_origin
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from edge_mrcnn.cli.teaching import gather_data, load_teacher
from edge_mrcnn.config import (
    LARGEST_ANCHOR,
    PRESETS,
    ModelConfig,
    PseudoLabelConfig,
    TrainConfig,
    default_anchor_sizes,
)
from runtimes.errors import UsageError
from runtimes.progress import silent, silent_lines

if TYPE_CHECKING:
    from edge_mrcnn.data.coco import CocoData
    from edge_mrcnn.model.checkpoint import Checkpoint

Command = TypeVar("Command", bound=Callable[..., Any])

PARTS = tuple(field.name for field in fields(ModelConfig) if field.name != "name")
"""Settings of the model; their defaults come from a preset or a checkpoint."""
START = ("model", "weights", "pretrained", "backbone_weights")
"""Options that say where the weights come from."""

OUTPUT_VARIABLE = "EDGE_MRCNN_OUTPUT"
"""Passes the output folder to the processes that Lightning starts for further devices."""

SECTIONS = {
    "Options": (
        "data", "val", "model", "weights", "classes", "backbone", "pretrained", "backbone_weights",
        "image_size_hw", "epochs", "batch", "lr", "teacher", "workers", "device", "resume", "output", "overwrite",
    ),
    "Optimizer and schedule": (
        "optimizer", "momentum", "nesterov", "weight_decay", "norm_decay", "bias_decay", "clip_norm",
        "backbone_lr_factor", "freeze_stages", "freeze_norm", "max_steps", "warmup_steps", "warmup_factor", "schedule",
        "milestones", "gamma", "ema", "seed",
    ),
    "Sampling of anchors, proposals and regions": (
        "rois", "roi_positive_fraction", "roi_object_iou", "roi_background_iou", "rpn_batch", "rpn_positive_fraction",
        "rpn_object_iou", "rpn_background_iou", "train_proposals", "train_proposals_per_level", "learn_crowds",
    ),
    "Augmentation": ("scale_jitter", "short_sides", "long_side", "flip", "color_jitter", "copy_paste"),
    "Pseudo-labels of the teacher": (
        "teacher_imgsz", "unlabelled", "pseudo_score", "pseudo_doubt", "pseudo_masks", "pseudo_box_iou",
    ),
    "Distillation, with --teacher": (
        "distill_maps", "distill_features", "distill_classes", "distill_boxes", "distill_masks",
    ),
    "Evaluation and logs": ("eval_every", "eval_limit", "patience", "logger"),
    "Machine": ("precision", "channels_last", "compile", "devices", "nodes"),
    "Parts of the model (default: as in the preset or checkpoint)": tuple(
        name for name in PARTS if name not in ("image_size_hw", "backbone")
    ),
}  # fmt: skip


def training_options(*, model: str, output: str, needs_data: bool = True) -> Callable[[Command], Command]:
    """Decorate a command with the options of a training.

    Args:
        model: Default of `--model`.
        output: Default of `--output`.
        needs_data: Whether labelled data is required.
    """
    data_help = DATA_HELP if needs_data else f"{DATA_HELP} Optional with --unlabelled."
    options = [
        click.option("--data", required=needs_data, help=data_help),
        click.option("--val", help=VAL_HELP),
        click.option(
            "--model", type=click.Choice(list(PRESETS)), default=model, show_default=True,
            help="Preset of model settings.",
        ),
        click.option("--backbone-weights", type=click.Path(), help="File with a state dict of the backbone."),
        click.option("--pretrained", is_flag=True, help="Download ImageNet weights for the backbone and use them."),
        click.option("--weights", type=click.Path(), help="Checkpoint to start from, instead of a preset."),
        CLASSES_OPTION,
        click.option("--teacher", type=click.Path(), help="Larger checkpoint for distillation and pseudo-labels."),
        click.option("--teacher-imgsz", type=SizeHW(), help="Input size of the teacher.  [default: the checkpoint's]"),
        click.option(
            "--unlabelled", multiple=True, type=click.Path(), metavar="PATH",
            help="Unlabelled images for the teacher to label: a folder, also one of `calib capture`; repeatable.",
        ),
        click.option("--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N."),
        click.option(
            "--devices", type=int, default=1, show_default=True, help="Devices per machine; each gets a process."
        ),
        click.option("--nodes", type=int, default=1, show_default=True, help="Number of machines."),
        click.option("--resume", is_flag=True, help="Resume an interrupted training in the output folder."),
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), default=Path(output), show_default=True,
            help="Folder of checkpoints and logs.",
        ),
        overwrite_option,
        setting_options(
            TrainConfig, PseudoLabelConfig, ModelConfig, leave_out=("name",), unset=dict.fromkeys(PARTS, "")
        ),
    ]  # fmt: skip

    def decorate(command: Command) -> Command:
        for option in reversed(options):  # click shows options in reverse order of decoration
            command = option(command)
        return command

    return decorate


@click.command(cls=SectionedCommand, sections=SECTIONS)
@training_options(model="nano", output="runs/train")
def command(**values: Any) -> None:
    """Train a Mask R-CNN on COCO-format data.

    Options come from the command line first, then from the --config file, then from the --weights checkpoint or the
    --model preset. If --model or --weights on the command line replace those of the file, the model settings of the
    file are ignored. The options used are saved to config.toml in the output folder.
    """
    trained = run_training(values)
    if is_first_process():
        click.echo(f"wrote {trained.best}")
        name_next("export", "--weights", trained.best, "--target", "onnx,openvino,tflite")


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    best: Path
    """The checkpoint."""
    output: Path
    """The folder of the training."""
    teacher: Checkpoint | None
    """The teacher, if there was one."""
    validation: CocoData | None
    """The validation data, if there was any."""


def run_training(values: dict[str, Any]) -> Trained:
    """Train with the options of `training_options`, and save them in the output folder."""
    ctx = click.get_current_context()
    _set_aside_parts(ctx, values)
    config = TrainConfig(**given(values, TrainConfig))
    pseudo = PseudoLabelConfig(**given(values, PseudoLabelConfig))
    _check_start(values)
    inputs = [values["data"], values["val"], values["weights"], values["teacher"], *values["unlabelled"]]
    resume, output = values["resume"], values["output"]
    if not resume:
        output = _choose_folder(output, inputs, overwrite=values["overwrite"])
    from edge_mrcnn.train.loop import train
    from edge_mrcnn.train.start import describe_frozen, keep_frozen

    teacher = load_teacher(values)
    training, validation = gather_data(values, config, pseudo, teacher, output)
    checkpoint = _start(values, training, config.seed)
    config = keep_frozen(config, checkpoint)
    if is_first_process():
        os.environ[OUTPUT_VARIABLE] = str(output)
        click.echo(f"{_headline(checkpoint, training, validation)}; {describe_frozen(config)}", err=True)
        _warn_of_small_anchors(checkpoint)
        _write_used(ctx, {**values, **asdict(config), **asdict(pseudo), **checkpoint.config.to_dict()}, output)
    best = train(
        checkpoint, training, output, config,
        validation=validation, device=values["device"], devices=values["devices"], nodes=values["nodes"],
        resume=resume, teacher=teacher, progress=make_progress() if is_first_process() else silent,
    )  # fmt: skip
    return Trained(best, output, teacher, validation)


def _write_used(ctx: click.Context, values: dict[str, Any], output: Path) -> None:
    """Save all options of a training, those from presets and checkpoints included, as a file for --config."""
    used = {**ctx.params, **values}
    if values["weights"]:
        used["model"] = None
    remark = f"edge-mrcnn {ctx.info_name} --config config.toml --output NEW_FOLDER"
    write_options(output / "config.toml", ctx, used, remark)


def _choose_folder(output: Path, inputs: list[str | None], *, overwrite: bool) -> Path:
    """The output folder; the first process chooses it for all processes."""
    if is_first_process():
        os.environ[OUTPUT_VARIABLE] = str(choose_output(output, inputs, overwrite=overwrite))
    return Path(os.environ.get(OUTPUT_VARIABLE, output))


def _set_aside_parts(ctx: click.Context, values: dict[str, Any]) -> None:
    """Ignore the model settings of the --config file if the command line replaces the file's model."""
    file = ctx.default_map or {}
    if not (file.keys() & {"model", "weights"} and (is_typed(ctx, "model") or is_typed(ctx, "weights"))):
        return
    names = [name for name in (*START, *PARTS) if name in file]
    dropped = drop_from_file(ctx, values, names)
    values["pretrained"] = bool(values["pretrained"])
    if dropped:
        click.echo(
            "--config: --model or --weights replace the file's model, so its model settings are ignored", err=True
        )


def _check_start(values: dict[str, Any]) -> None:
    """Refuse conflicting sources of weights.

    Raises:
        UsageError: If two options conflict.
    """
    pretrained, backbone_weights = values["pretrained"], values["backbone_weights"]
    if pretrained and backbone_weights:
        raise UsageError("expected only one of --pretrained and --backbone-weights")
    if values["weights"] and not values["backbone"] and (pretrained or backbone_weights):
        raise UsageError(
            "--pretrained and --backbone-weights need --backbone here: a model from --weights keeps its own backbone"
        )


def _start(values: dict[str, Any], training: Any, seed: int) -> Any:
    """The checkpoint that the training starts from."""
    from edge_mrcnn.train.start import start

    return start(
        training,
        model=values["model"] or "nano",
        weights=values["weights"],
        pretrained=bool(values["pretrained"]),
        backbone_weights=values["backbone_weights"],
        origin=given_origin(),
        seed=seed,
        say=(lambda line: click.echo(line, err=True)) if is_first_process() else silent_lines,
        **given(values, ModelConfig),
    )


def _warn_of_small_anchors(checkpoint: Any) -> None:
    """Warn if a trained model, which keeps its anchors, gets an input that is too large for them."""
    largest = max(max(sizes) for sizes in checkpoint.model.rpn.anchor_generator.sizes)
    side = max(checkpoint.config.image_size_hw)
    if largest < LARGEST_ANCHOR * side:
        fitting = ",".join(f"{size:g}" for size in default_anchor_sizes(checkpoint.config))
        click.echo(
            f"warning: the largest anchor is {largest:g} px, the input is {side} px: large objects will match no "
            f"anchor. --anchor-sizes {fitting} adds pyramid levels, which start without trained weights",
            err=True,
        )


def is_first_process() -> bool:
    """Whether this process is the first; torchrun counts `RANK` over nodes, Lightning sets `LOCAL_RANK` only."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def _headline(checkpoint: Any, training: Any, validation: Any) -> str:
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    objects = sum(training.count_objects().values())
    boxes = training.count_boxes()
    kinds = f" ({objects - boxes} with a mask, {boxes} with a box only)" if boxes else ""
    held_out = f"{len(validation.images)} for validation" if validation else "no validation images"
    size = "x".join(map(str, checkpoint.config.image_size_hw))
    return (
        f"{checkpoint.config.name} ({checkpoint.config.backbone}, {parameters / 1e6:.2f} M parameters, {size}) on "
        f"{len(training.images)} images with {objects} objects{kinds} of "
        f"{len(training.classes)} classes; {held_out}"
    )

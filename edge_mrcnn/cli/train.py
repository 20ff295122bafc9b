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
from edge_mrcnn.cli.options import DATA_HELP, make_progress, name_next
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
"""Settings of the model, which a preset or a checkpoint gives and each of which can be named alone."""
START = ("model", "weights", "pretrained", "backbone_weights")
"""Where the weights come from."""

OUTPUT_VARIABLE = "EDGE_MRCNN_OUTPUT"
"""Tells the processes that Lightning starts for further devices which folder the first one chose."""

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
    "What the two stages are trained on": (
        "rois", "roi_positive_fraction", "roi_object_iou", "roi_background_iou", "rpn_batch", "rpn_positive_fraction",
        "rpn_object_iou", "rpn_background_iou", "train_proposals", "train_proposals_per_level", "learn_crowds",
    ),
    "Augmentation": ("scale_jitter", "short_sides", "long_side", "flip", "color_jitter", "copy_paste"),
    "Labels of the teacher": (
        "teacher_imgsz", "unlabelled", "pseudo_score", "pseudo_doubt", "pseudo_masks", "pseudo_box_iou",
    ),
    "Distillation, with --teacher": (
        "distill_maps", "distill_features", "distill_classes", "distill_boxes", "distill_masks",
    ),
    "Evaluation and logs": ("eval_every", "eval_limit", "patience", "logger"),
    "Machine": ("precision", "channels_last", "compile", "devices", "nodes"),
    "Parts of the model, else the preset's or the checkpoint's": tuple(
        name for name in PARTS if name not in ("image_size_hw", "backbone")
    ),
}  # fmt: skip


def training_options(*, model: str, output: str, needs_data: bool = True) -> Callable[[Command], Command]:
    """Give a command the options of a training.

    Args:
        model: Preset that is trained unless another is named.
        output: Folder for what is written, likewise.
        needs_data: Whether there is no training without labelled data.
    """
    data_help = DATA_HELP if needs_data else f"{DATA_HELP} Without it the teacher's labels are all there is."
    options = [
        click.option("--data", required=needs_data, help=data_help),
        click.option("--val", help="Data for the AP of each epoch  [default: the folder's val split, if it has one]"),
        click.option("--model", type=click.Choice(list(PRESETS)), default=model, show_default=True, help="Preset."),
        click.option("--backbone-weights", type=click.Path(), help="Local state dict of the backbone."),
        click.option("--pretrained", is_flag=True, help="Download ImageNet weights of the backbone."),
        click.option("--weights", type=click.Path(), help="Start from this checkpoint instead of a preset."),
        CLASSES_OPTION,
        click.option("--teacher", type=click.Path(), help="Learn from the answers of this larger checkpoint too."),
        click.option("--teacher-imgsz", type=SizeHW(), help="Input of the teacher in pixels  [default: its own]"),
        click.option(
            "--unlabelled", multiple=True, type=click.Path(), metavar="PATH",
            help="Pictures that the teacher labels: a folder, or what `calib capture` wrote; repeatable.",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
        click.option(
            "--devices", type=int, default=1, show_default=True, help="Processes on each node, one device each."
        ),
        click.option("--nodes", type=int, default=1, show_default=True, help="Machines."),
        click.option("--resume", is_flag=True, help="Continue an interrupted training in the output folder."),
        click.option("-o", "--output", type=click.Path(path_type=Path), default=Path(output), show_default=True),
        overwrite_option,
        setting_options(
            TrainConfig, PseudoLabelConfig, ModelConfig, leave_out=("name",), unset=dict.fromkeys(PARTS, "")
        ),
    ]  # fmt: skip

    def decorate(command: Command) -> Command:
        for option in reversed(options):  # click shows first what is added last
            command = option(command)
        return command

    return decorate


@click.command(cls=SectionedCommand, sections=SECTIONS)
@training_options(model="nano", output="runs/train")
def command(**values: Any) -> None:
    """Train a Mask R-CNN on COCO-format data.

    Of two values for one option the first of these counts: the command line, the file of --config, the checkpoint of
    --weights or the preset of --model. Another --model or --weights on the command line than in the file sets aside
    the parts of the model that the file names. The output folder keeps what was used as config.toml.
    """
    trained = run_training(values)
    if is_first_process():
        click.echo(f"wrote {trained.best}")
        name_next("export", "--weights", trained.best, "--target", "onnx,openvino,tflite")


@dataclass(frozen=True)
class Trained:
    """What a training left."""

    best: Path
    """The checkpoint."""
    output: Path
    """The folder that it lies in."""
    teacher: Checkpoint | None
    """What it learnt from."""
    validation: CocoData | None
    """What its AP was measured on."""


def run_training(values: dict[str, Any]) -> Trained:
    """Train as the options of `training_options` say, and write what was used into the output folder."""
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
    """Write the options of a training, with what presets and checkpoints gave, as a file that --config takes."""
    used = {**ctx.params, **values}
    if values["weights"]:
        used["model"] = None
    remark = f"edge-mrcnn {ctx.info_name} --config config.toml --output NEW_FOLDER"
    write_options(output / "config.toml", ctx, used, remark)


def _choose_folder(output: Path, inputs: list[str | None], *, overwrite: bool) -> Path:
    """A folder for this training alone; the first process chooses it for all."""
    if is_first_process():
        os.environ[OUTPUT_VARIABLE] = str(choose_output(output, inputs, overwrite=overwrite))
    return Path(os.environ.get(OUTPUT_VARIABLE, output))


def _set_aside_parts(ctx: click.Context, values: dict[str, Any]) -> None:
    """The parts in a file belong to the model that the file starts from, not to one that is typed in its place."""
    file = ctx.default_map or {}
    if not (file.keys() & {"model", "weights"} and (is_typed(ctx, "model") or is_typed(ctx, "weights"))):
        return
    names = [name for name in (*START, *PARTS) if name in file]
    dropped = drop_from_file(ctx, values, names)
    values["pretrained"] = bool(values["pretrained"])
    if dropped:
        click.echo("--config: the model is another one, so the parts that the file names are set aside", err=True)


def _check_start(values: dict[str, Any]) -> None:
    """Refuse ways to start that exclude each other.

    Raises:
        UsageError: If there are such.
    """
    pretrained, backbone_weights = values["pretrained"], values["backbone_weights"]
    if pretrained and backbone_weights:
        raise UsageError("--pretrained and --backbone-weights exclude each other")
    if values["weights"] and not values["backbone"] and (pretrained or backbone_weights):
        raise UsageError("--weights keeps its own backbone: name another with --backbone, or give no weights for one")


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
    """A trained model keeps its anchors, whatever input it gets."""
    largest = max(max(sizes) for sizes in checkpoint.model.rpn.anchor_generator.sizes)
    side = max(checkpoint.config.image_size_hw)
    if largest < LARGEST_ANCHOR * side:
        fitting = ",".join(f"{size:g}" for size in default_anchor_sizes(checkpoint.config))
        click.echo(
            f"the largest anchor is {largest:g} px in an input of {side} px, so large objects find none: "
            f"--anchor-sizes {fitting} adds levels, which have no weights",
            err=True,
        )


def is_first_process() -> bool:
    """Whether this one speaks and writes for all: torchrun counts `RANK` over all nodes, Lightning on one alone."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def _headline(checkpoint: Any, training: Any, validation: Any) -> str:
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    objects = sum(training.count_objects().values())
    boxes = training.count_boxes()
    kinds = f" ({objects - boxes} with a mask, {boxes} with a box only, which train no mask)" if boxes else ""
    held_out = f"{len(validation.images)} for validation" if validation else "none for validation"
    size = "x".join(map(str, checkpoint.config.image_size_hw))
    return (
        f"{checkpoint.config.name} ({checkpoint.config.backbone}, {parameters / 1e6:.2f} M parameters, {size}) on "
        f"{len(training.images)} images with {objects} objects{kinds} of "
        f"{len(training.classes)} classes; {held_out}"
    )

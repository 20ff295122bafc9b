"""The verbs of the command line as Python functions: `edge_mrcnn.train(...)`, `prune`, `export`, `quantize`, `report`,
`val`.

Each takes paths, calls the same code as the command line, and imports what it needs when it is called. Settings are
keyword arguments, `epochs=3`, also by the name of the option, `imgsz=320`. Existing outputs are not overwritten by
default: a new one gets a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtimes.errors import UsageError
from runtimes.model_file import ModelFile
from runtimes.output_paths import expect_apart, expect_writable, free_path
from runtimes.progress import Progress, Say, silent, silent_lines

if TYPE_CHECKING:
    from edge_mrcnn.data.coco import CocoData
    from edge_mrcnn.evaluation.evaluate import Evaluation
    from edge_mrcnn.report.rows import Comparison
    from quantize import CalibrationSet
    from runtimes import Runtime

AnyPath = str | Path


def load(path: AnyPath, *, device: str | None = None, **options: Any) -> Runtime:
    """Open a checkpoint or an exported model; both are called as `model(image)`.

    Args:
        path: A checkpoint, which torch runs, or a .onnx, .xml or .tflite, as in `runtimes.load`.
        device: For a checkpoint "auto", "cpu", "cuda" or "cuda:N"; for other files as in `runtimes.load`.
        **options: Options of `runtimes.load`, such as `threads`.

    Raises:
        EdgeError: As `runtimes.load` does; MissingExtraError if a checkpoint is opened without torch.
    """
    import runtimes
    from edge_mrcnn.measure.files import is_checkpoint

    if not is_checkpoint(Path(path)):
        return runtimes.load(path, device=device, **options)
    if options:
        raise UsageError(f"{', '.join(options)}: {path} is a checkpoint, which takes only the option device")
    from edge_mrcnn.report.models import open_model

    return open_model(path, device=device or "auto").runtime


def train(
    data: AnyPath,
    output: AnyPath = "runs/train",
    *,
    val: AnyPath | None = None,
    model: str = "nano",
    weights: AnyPath | None = None,
    teacher: AnyPath | None = None,
    pretrained: bool = False,
    backbone_weights: AnyPath | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
    **settings: Any,
) -> Path:
    """Train a model, as `edge-mrcnn train` does.

    Args:
        data: COCO JSON, or a folder in any layout that `edge_mrcnn.data.load` reads.
        output: Output folder.
        val: Validation data for the AP of each epoch; the folder's val split if None.
        model: Name of a preset.
        weights: Checkpoint to start from, instead of a preset.
        teacher: Larger checkpoint for distillation.
        pretrained: Download ImageNet weights of the backbone and start from them.
        backbone_weights: File with a state dict of the backbone.
        device: "auto", "cpu", "cuda" or "cuda:N".
        resume: Resume an interrupted training in the output folder.
        overwrite: Whether an existing output folder is replaced.
        progress: Called with the number of images checked before the first step.
        **settings: Fields of `edge_mrcnn.config.TrainConfig` and of `ModelConfig`, such as `epochs`, `lr`, `imgsz`.

    Returns:
        The path of `best.pt`.

    Raises:
        EdgeError: As `edge_mrcnn.train.loop.train` does, or if a setting is unknown.
    """
    from edge_mrcnn.config import ModelConfig, TrainConfig
    from edge_mrcnn.model.checkpoint import load_checkpoint
    from edge_mrcnn.train.loop import train as run_training
    from edge_mrcnn.train.start import start

    training, parts = sort_settings(settings, TrainConfig, ModelConfig)
    config = TrainConfig(**training)
    folder = Path(output) if resume else _choose(output, [data, val, weights, teacher], overwrite=overwrite)
    pictures, held_out = _load_splits(data, val, config.learn_crowds)
    checkpoint = start(
        pictures, model=model, weights=weights, pretrained=pretrained, backbone_weights=backbone_weights,
        seed=config.seed, **parts,
    )  # fmt: skip
    tutor = load_checkpoint(teacher) if teacher else None
    return run_training(
        checkpoint, pictures, folder, config,
        validation=held_out, device=device, resume=resume, teacher=tutor, progress=progress,
    )  # fmt: skip


def prune(
    weights: AnyPath,
    data: AnyPath,
    output: AnyPath = "runs/prune",
    *,
    val: AnyPath | None = None,
    teacher: AnyPath | None = None,
    iterations: int = 1,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    say: Say = silent_lines,
    **settings: Any,
) -> Path:
    """Remove channels of a trained model until it meets a budget, and fine-tune it, as `edge-mrcnn prune` does.

    Args:
        weights: Checkpoint to prune.
        data: Data for ranking the channels and for fine-tuning: its train split.
        output: Output folder.
        val: Validation data for the AP of each epoch; the folder's val split if None.
        teacher: Teacher checkpoint for distillation; the unpruned model if None.
        iterations: Number of rounds of pruning and fine-tuning.
        device: "auto", "cpu", "cuda" or "cuda:N".
        resume: Resume an interrupted run in the output folder.
        overwrite: Whether an existing output folder is replaced.
        say: Called with each line of progress.
        **settings: Fields of `edge_mrcnn.prune.settings.PruneConfig`, one of them a budget such as `macs=0.65`, and of
            `TrainConfig` for the fine-tuning.

    Returns:
        The path of `best.pt`.

    Raises:
        EdgeError: As `edge_mrcnn.prune.tuning.prune_and_train` does, or if a setting is unknown.
    """
    from edge_mrcnn.config import TrainConfig
    from edge_mrcnn.model.checkpoint import load_checkpoint
    from edge_mrcnn.prune.fine_tuning import fine_tuning
    from edge_mrcnn.prune.settings import PruneConfig
    from edge_mrcnn.prune.tuning import prune_and_train

    budget, training = sort_settings(settings, PruneConfig, TrainConfig)
    config = PruneConfig(**budget)
    folder = Path(output) if resume else _choose(output, [data, val, weights, teacher], overwrite=overwrite)
    checkpoint = load_checkpoint(weights)
    tuning = fine_tuning(checkpoint.training.get("settings", {}), config.seed, **training)
    pictures, held_out = _load_splits(data, val, tuning.learn_crowds)
    tutor = load_checkpoint(teacher) if teacher else None
    return prune_and_train(
        checkpoint, pictures, folder, config, tuning,
        teacher=tutor, validation=held_out, iterations=iterations, resume=resume, device=device, say=say,
    )  # fmt: skip


def export(
    weights: AnyPath,
    output: AnyPath | None = None,
    *,
    calib: AnyPath | CalibrationSet | None = None,
    overwrite: bool = False,
    say: Say = silent_lines,
    **settings: Any,
) -> list[Path]:
    """Export a checkpoint to ONNX, OpenVINO and TFLite, and verify each file, as `edge-mrcnn export` does.

    Args:
        weights: A checkpoint of ours, torchvision, Detectron2 or MMDetection.
        output: Output folder; the checkpoint's folder if None.
        calib: Calibration images for INT8: a folder, a manifest or a data set; required with `int8=True`.
        overwrite: Whether existing files are replaced.
        say: Called with each line of progress.
        **settings: Fields of `edge_mrcnn.export.settings.ExportConfig`, such as `target="onnx"`, `int8`, `imgsz`, and
            of `quantize.QuantizeConfig`, such as `keep_float`.

    Returns:
        The files, FP32 before FP16 before INT8.

    Raises:
        EdgeError: As `edge_mrcnn.export.pipeline.export` does, or if a setting is unknown.
    """
    from edge_mrcnn.export.pipeline import export as write_files
    from edge_mrcnn.export.settings import ExportConfig
    from quantize import QuantizeConfig

    exporting, quantizing = sort_settings(settings, ExportConfig, QuantizeConfig)
    return write_files(
        weights, output or Path(weights).parent, ExportConfig(**exporting),
        calibration=_open_calibration(calib), quantization=QuantizeConfig(**quantizing),
        overwrite=overwrite, say=say,
    )  # fmt: skip


def quantize(
    model: AnyPath,
    calib: AnyPath | CalibrationSet,
    output: AnyPath | None = None,
    *,
    max_drop: float | None = None,
    data: AnyPath | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    say: Say = silent_lines,
    **settings: Any,
) -> Path:
    """Quantize an exported FP32 file to INT8, without torch, as `edge-mrcnn quantize` does.

    Args:
        model: A .onnx, .xml or .tflite in FP32, or a bundle with one.
        calib: Calibration images, like those that the camera will see: a folder, a manifest or a data set.
        output: Output file; NAME-int8 beside the model if None.
        max_drop: Maximum drop in AP, in [0, 1]; needs `data`. Blocks are kept in float until it is met.
        data: Data to measure the drop on; never the calibration images.
        limit: Maximum number of images of `data`.
        overwrite: Whether an existing file is replaced.
        say: Called with each line of the search for blocks to keep in float.
        **settings: Fields of `quantize.QuantizeConfig`, such as `keep_float`.

    Returns:
        The file.

    Raises:
        EdgeError: As `quantize.quantize` does, or if a setting is unknown.
    """
    import quantize as quantizers
    from edge_mrcnn.data import load as load_data
    from edge_mrcnn.evaluation.int8_search import quantize_within

    if (max_drop is None) != (data is None):
        raise UsageError("expected max_drop and data together: the drop is measured on that data")
    (quantizing,) = sort_settings(settings, quantizers.QuantizeConfig)
    config = quantizers.QuantizeConfig(**quantizing)
    file = ModelFile(model)
    place = _choose(output or file.beside("-int8"), [*file.files, data], overwrite=overwrite)
    pictures = _open_calibration(calib)
    assert pictures is not None
    if max_drop is None or data is None:
        return quantizers.quantize(model, place, pictures, config)
    held_out = load_data(data, "val")
    for line in quantize_within(Path(model), place, pictures, config, max_drop=max_drop, data=held_out, limit=limit):
        say(line)
    return place


def val(
    model: AnyPath | Runtime,
    data: AnyPath,
    *,
    split: str = "val",
    device: str | None = None,
    threads: int | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Measure the AP of one model, as `edge-mrcnn val` does.

    Args:
        model: A checkpoint, an exported file, or an opened model, which stays open.
        data: COCO JSON, or a folder in any layout.
        split: Split of the data.
        device: As in `load`.
        threads: CPU threads of an exported model.
        limit: Measure on at most this many images.
        progress: Called after each image.

    Returns:
        `.box.ap`, `.mask.ap`, AP per class and by size, errors by kind, latency.

    Raises:
        EdgeError: If model or data cannot be opened, or share no class.
    """
    from edge_mrcnn.data import load as load_data
    from edge_mrcnn.evaluation.evaluate import evaluate
    from runtimes import Runtime

    pictures = load_data(data, split)
    if isinstance(model, Runtime):
        return evaluate(model, pictures, limit=limit, progress=progress)
    options = {} if threads is None else {"threads": threads}
    with load(model, device=device, **options) as opened:
        return evaluate(opened, pictures, limit=limit, progress=progress)


def report(
    reference: AnyPath,
    models: AnyPath | Sequence[AnyPath],
    data: AnyPath,
    output: AnyPath = "runs/report",
    *,
    extra: Mapping[str, AnyPath] | None = None,
    max_drop: float | None = None,
    limit: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    memory: bool = True,
    title: str = "Accuracy report",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Compare models with the FP32 model and write the report, as `edge-mrcnn report` does.

    Args:
        reference: FP32 checkpoint, FP32 export, or the file that `report reference` wrote.
        models: Models to compare.
        data: Data to measure on: its val split.
        output: Output folder for report.html, report.md and report.json.
        extra: Label -> further data set to measure on, without the `max_drop` check.
        max_drop: Maximum drop in box and mask AP, in [0, 1]. Models that exceed it are in `too_lossy`; no error is
            raised.
        limit: Measure on at most this many images of each data set.
        device: Device of checkpoints: "auto", "cpu", "cuda" or "cuda:N".
        threads: CPU threads of every runtime.
        memory: Whether the memory of each model is measured, in a process of its own.
        title: Title of the report.
        overwrite: Whether an existing output folder is replaced.
        progress: Called after each step.

    Returns:
        The rows of the report, the reference first.

    Raises:
        EdgeError: If a model or data set cannot be opened, or if they cannot be compared.
    """
    from contextlib import ExitStack

    from edge_mrcnn.data import load as load_data
    from edge_mrcnn.report.comparison import CompareConfig, Subject, compare_models
    from edge_mrcnn.report.models import open_model
    from edge_mrcnn.report.reference_file import read_reference
    from edge_mrcnn.report.writing import write_report

    several = [models] if isinstance(models, (str, Path)) else models
    paths = [Path(reference), *map(Path, several)]
    folder = _choose(output, [*paths, data], overwrite=overwrite)
    sets = {_label(data): load_data(data, "val")}
    sets |= {label: load_data(path, "val") for label, path in (extra or {}).items()}
    config = CompareConfig(title=title, limit=limit, max_drop=max_drop, measures_memory=memory)
    with ExitStack() as stack:
        subjects: list[Subject] = [read_reference(paths[0])] if paths[0].suffix == ".json" else []
        for path in paths[len(subjects) :]:
            opened = open_model(path, device=device, threads=threads)
            stack.callback(opened.runtime.close)
            subjects.append(opened)
        measured = compare_models(subjects, sets, config, progress=progress)
    write_report(measured, sets, folder)
    return measured.comparison


def sort_settings(settings: Mapping[str, Any], *configs: type) -> list[dict[str, Any]]:
    """Assign each setting to the first dataclass that has it.

    Args:
        settings: By the name of the field, or of its option with underscores: "image_size_hw" or "imgsz". A size may be
            one number, and a tuple one value.
        configs: Dataclasses of settings.

    Returns:
        For each dataclass its fields.

    Raises:
        UsageError: If no dataclass has a setting.
    """
    from edge_mrcnn.settings import describe

    owners: dict[str, tuple[int, Any]] = {}
    for number, config in enumerate(configs):
        for setting in describe(config):
            for name in (setting.name, setting.flag.lstrip("-").replace("-", "_")):
                owners.setdefault(name, (number, setting))
    sorted_: list[dict[str, Any]] = [{} for _ in configs]
    for name, value in settings.items():
        if name not in owners:
            raise UsageError(_refuse(name, owners))
        number, setting = owners[name]
        sorted_[number][setting.name] = _as_tuple(value, setting)
    return sorted_


def _as_tuple(value: Any, setting: Any) -> Any:
    """A single value for a field with several values, or a text with commas."""
    if setting.item is None or not isinstance(value, (str, int, float)):
        return value
    if isinstance(value, str):
        return tuple(setting.item(part.strip()) for part in value.split(",") if part.strip())
    return (value,) * (setting.length or 1)


def _refuse(name: str, known: Iterable[str]) -> str:
    import difflib  # imported here, because only errors need it

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"{name}: no such setting" + (f", did you mean {near[0]}?" if near else "")


def _choose(output: AnyPath, inputs: Iterable[AnyPath | None], *, overwrite: bool) -> Path:
    """The output path: never an input, and with a number if it exists."""
    path = Path(output)
    expect_apart([("output", path)], [Path(one) for one in inputs if one])
    expect_writable(path)
    return free_path(path, overwrite=overwrite)


def _load_splits(data: AnyPath, val: AnyPath | None, learn_crowds: bool) -> tuple[CocoData, CocoData | None]:
    """The training data, and the validation data if there is any."""
    from edge_mrcnn.data.loading import has_split
    from edge_mrcnn.data.loading import load as load_data

    training = load_data(data, "train", learn_crowds=learn_crowds)
    if val is None and not has_split(data, "val"):
        return training, None
    return training, load_data(data if val is None else val, "val", learn_crowds=learn_crowds)


def _open_calibration(calib: AnyPath | CalibrationSet | None) -> CalibrationSet | None:
    from edge_mrcnn.data.calibration import load_calibration

    return load_calibration(calib) if isinstance(calib, (str, Path)) else calib


def _label(data: AnyPath) -> str:
    """Label of a data set: the name of its folder or file."""
    path = Path(data)
    return path.stem if path.is_file() else path.resolve().name

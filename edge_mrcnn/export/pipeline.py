"""Export step by step: graph, file, comparison with torch, INT8, comparison again."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import quantize
import runtimes
from edge_mrcnn.export import TARGETS, fixed_samples, verify
from edge_mrcnn.export.graph import DeployGraph
from edge_mrcnn.export.half import halve
from edge_mrcnn.export.heavy import HEAVY_TRIALS, describe_effort
from edge_mrcnn.export.pictures import TRIALS
from edge_mrcnn.export.settings import ExportConfig
from edge_mrcnn.measure.surroundings import describe_packages, runtime_packages
from edge_mrcnn.model.checkpoint import Checkpoint, file_sha256, load_checkpoint, rename_classes
from edge_mrcnn.model.importers.origin import Origin
from edge_mrcnn.model.mask_rcnn import apply_inference_settings
from edge_mrcnn.model.published import file_stem, locate
from edge_mrcnn.reference import TorchRuntime
from runtimes.base import RawOutputs
from runtimes.errors import GateError, UsageError
from runtimes.formats import FORMATS
from runtimes.formats.jobs import find_job
from runtimes.model_file import ModelFile
from runtimes.parity import Parity, Tolerance, compare_outputs
from runtimes.progress import Say
from runtimes.quiet import quiet_stderr

MAKERS = ("edge-mrcnn", "torch", "torchvision", "onnx", "nncf", "litert-torch", "ai-edge-quantizer")
"""Packages for making model files, besides those that run them."""

PICTURES = 6
"""Number of calibration images that the comparison uses."""

NUDGES = 3
"""Maximum number of trials of rounding in torch: it is random whether two scores change their order."""

WriteInt8 = Callable[[Path, Path, quantize.CalibrationSet, quantize.QuantizeConfig], object]
"""Function from an FP32 file to an INT8 file; arguments as of `quantize.quantize`."""


def export(
    weights: str | Path,
    output: str | Path,
    config: ExportConfig,
    *,
    origin: Origin | None = None,
    calibration: quantize.CalibrationSet | None = None,
    quantization: quantize.QuantizeConfig | None = None,
    write_int8: WriteInt8 = quantize.quantize,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> list[Path]:
    """Write a checkpoint for each target and verify each file in its own runtime.

    Args:
        weights: Checkpoint of `train` or `prune`, or of another project, see `load_checkpoint`.
        output: Output folder; files are named after the checkpoint.
        config: Settings of the export.
        origin: Information that a checkpoint of another project does not contain.
        calibration: Calibration images for INT8; a few of them are also used for the verification.
        quantization: Settings of the quantization.
        write_int8: Function that quantizes, such as a search within a budget.
        overwrite: Whether existing files are replaced; else all of them get a number.
        say: Called with each line of progress.

    Returns:
        The files, FP32 before FP16 before INT8, in the order of the targets.

    Raises:
        UsageError: If INT8 is requested without calibration images.
        GateError: If a file differs from torch by more than its tolerance, or TensorRT does not support a static ONNX
            file; it is kept as `*.failed.*`.
    """
    if config.int8 and calibration is None:
        raise UsageError("--int8 needs --calib: a folder of images like those of the camera, or a manifest.json")
    checkpoint = adapt(load_checkpoint(weights, origin), config)
    effort = describe_effort(checkpoint)
    for line in effort:
        say(line)
    usual = _make_source(checkpoint, config, calibration, file_sha256(locate(weights)), is_heavy=bool(effort))
    sources = {name: usual for name in config.targets}
    for name in config.targets:
        if fixed_samples.is_needed(name, checkpoint):
            sources[name] = _with_fixed_samples(usual)
            fixed_samples.tell_cost(usual.reference.card, usual.inputs, sources[name].inputs, name, say)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / (file_stem(weights) + config.variant)
    if not overwrite:
        stem = _free_stem(stem, config)
    files = {name: _write(sources[name], name, stem, config, say) for name in config.targets}
    halves = [_halve(file, sources[name], say) for name, file in files.items()] if config.fp16 else []
    if calibration is None or not config.int8:
        return [*files.values(), *halves]
    integers = [
        _quantize(file, sources[name], calibration, quantization, write_int8, say) for name, file in files.items()
    ]
    return [*files.values(), *halves, *integers]


def _free_stem(stem: Path, config: ExportConfig) -> Path:
    """The name itself if no file of this export would replace another, else the first free one with a number."""
    endings = ["", *(["-fp16"] if config.fp16 else []), *(["-int8"] if config.int8 else [])]
    suffixes = [ending + FORMATS[target].suffix for ending in endings for target in config.targets]
    for number in itertools.count(1):
        candidate = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        if not any(candidate.with_name(candidate.name + suffix).exists() for suffix in suffixes):
            return candidate
    raise AssertionError("itertools.count never ends")


@dataclass
class _Source:
    """Graph, reference and images of a target."""

    checkpoint: Checkpoint
    config: ExportConfig
    reference: TorchRuntime
    inputs: verify.VerifyInputs

    @cached_property
    def graph(self) -> DeployGraph:
        """The same object for every target, which share conversions; a copy of all weights, made when it is needed."""
        checkpoint, config = self.checkpoint, self.config
        return DeployGraph(checkpoint.model, checkpoint.config, batch=config.batch, static=config.static)


def _make_source(
    checkpoint: Checkpoint,
    config: ExportConfig,
    calibration: quantize.CalibrationSet | None,
    sha256: str,
    *,
    is_heavy: bool,
) -> _Source:
    reference = TorchRuntime(checkpoint, device="cpu", sha256=sha256)
    pictures = calibration.tensors(reference.card, PICTURES) if calibration else []
    inputs = verify.make_inputs(reference, pictures, trials=HEAVY_TRIALS if is_heavy else TRIALS)
    return _Source(checkpoint, config, reference, inputs)


def _with_fixed_samples(usual: _Source) -> _Source:
    """The source of a target without adaptive sampling, on the images of the others."""
    fixed = fixed_samples.with_fixed_samples(usual.checkpoint)
    reference = TorchRuntime(fixed, device="cpu", sha256=usual.reference.card.checkpoint_sha256)
    return _Source(fixed, usual.config, reference, verify.with_outputs_of(reference, usual.inputs))


def adapt(checkpoint: Checkpoint, config: ExportConfig) -> Checkpoint:
    """The checkpoint with the requested inference settings and names, in model and config."""
    if config.classes is not None:
        checkpoint = rename_classes(checkpoint, config.classes, config.category_ids)
    changed = checkpoint.config.updated(
        proposals=config.proposals,
        max_detections=config.max_detections,
        score_threshold=config.score_threshold,
        iou_threshold=config.iou_threshold,
        image_size_hw=config.image_size_hw,
        roi_samples=config.roi_samples,
    )
    apply_inference_settings(checkpoint.model, changed)
    return replace(checkpoint, config=changed)


def _write(source: _Source, target: str, stem: Path, config: ExportConfig, say: Say) -> Path:
    path = stem.with_name(stem.name + FORMATS[target].suffix)
    say(f"{target}: converting")
    write = find_writer(target)
    rows = "static" if config.static or TARGETS[target].is_static else "dynamic"
    card = source.reference.card.updated(target=target, batch=config.batch, rows=rows, versions=versions())
    write(source.graph, card, path, **{name: getattr(config, name) for name in TARGETS[target].options})
    _check(path, source, verify.FP32, say)
    _attach_golden(path, source.inputs, say)
    return path


def find_writer(target: str) -> Callable[..., None]:
    """The function that writes a target.

    Raises:
        MissingExtraError: If a package that it needs is not installed.
    """
    writers = {name: entry.writer for name, entry in TARGETS.items()}
    with quiet_stderr():  # suppresses a converter's messages about its own packages
        write: Callable[..., None] = find_job(
            writers, target, "writing it", name=f"target {target}", install="'edge-mrcnn[export]'"
        )
    return write


def _halve(file: Path, source: _Source, say: Say) -> Path:
    path = file.with_name(f"{file.stem}-fp16{file.suffix}")
    halve(file, path)
    _check(path, source, verify.FP16, say)
    _attach_golden(path, source.inputs, say)
    return path


def _quantize(
    file: Path,
    source: _Source,
    calibration: quantize.CalibrationSet,
    config: quantize.QuantizeConfig | None,
    write_int8: WriteInt8,
    say: Say,
) -> Path:
    path = file.with_name(f"{file.stem}-int8{file.suffix}")
    settings = config or quantize.QuantizeConfig()
    say(f"{path.name}: quantizing with {len(calibration.choose(settings.images, settings.seed))} calibration images")
    write_int8(file, path, calibration, settings)
    _check_collapse(path, source, say)
    return path


def _check(path: Path, source: _Source, tolerance: Tolerance, say: Say) -> None:
    """Raise GateError unless a file has the same detections as torch, or differs only by rounding."""
    inputs, card = source.inputs, source.reference.card
    outputs = _run_all(path, inputs.tensors)
    parity = compare_outputs(inputs.outputs, outputs, card, tolerance)
    say(f"{path.name}: {parity}")
    if not parity.passes(tolerance) and not _is_rounding(source, outputs, tolerance, say):
        raise _fail(path, parity, tolerance)
    _check_static(path, say)


def _check_collapse(path: Path, source: _Source, say: Say) -> None:
    """Raise GateError if an INT8 file loses confident detections of torch in the calibration images."""
    inputs, card = source.inputs, source.reference.card
    outputs = _run_all(path, inputs.pictures)
    parity = compare_outputs(inputs.picture_outputs, outputs, card, verify.INT8, min_score=0.5)
    say(f"{path.name}: {parity}")
    if not parity.passes(verify.INT8):
        raise _fail(path, parity, verify.INT8)
    _check_static(path, say)


def _run_all(path: Path, tensors: Sequence[np.ndarray]) -> list[RawOutputs]:
    """Outputs of a model file for (1, H, W, 3) tensors."""
    with runtimes.load(path) as artefact:
        return list(artefact.run_batch(np.concatenate(tensors)))


def _fail(path: Path, parity: Parity, tolerance: Tolerance) -> GateError:
    """Rename a model file as failed; returns the error."""
    failed = _set_aside(path)
    return GateError(
        f"{path.name} differs from torch: {parity}; expected {tolerance}. It is kept as {failed.name}. In a model "
        "that was hardly trained many scores are equal, and rounding orders them anew: train it longer"
    )


def _is_rounding(source: _Source, outputs: list[RawOutputs], tolerance: Tolerance, say: Say) -> bool:
    """Whether a file differs from torch by at most twice the effect of the last bit of the weights in torch."""
    expected, card = source.inputs.outputs, source.reference.card
    usual = verify.typical(tolerance)
    if not compare_outputs(expected, outputs, card, usual).passes(usual):
        return False
    tries: list[Parity] = []
    for seed in range(NUDGES):
        nudged = source.reference.nudged(seed)
        again = [nudged.run(tensor) for tensor in source.inputs.tensors]
        tries.append(compare_outputs(expected, again, card, tolerance))
        # Further trials only widen the tolerance, so the first one that explains the difference is enough.
        rounding = verify.worst_of(tries)
        wider = verify.allow_rounding(tolerance, rounding)
        if compare_outputs(expected, outputs, card, wider).passes(wider):
            say(f"rounding alone, in torch: {rounding}")
            return True
    say(f"rounding alone, in torch: {verify.worst_of(tries)}")
    return False


def _check_static(path: Path, say: Say) -> None:
    """Raise GateError for nodes that the target of static files does not support."""
    card = ModelFile(path).card
    module = TARGETS[card.target].check_static
    if card.rows != "static" or not module:
        return
    checker = importlib.import_module(module)
    violations = checker.find_violations(path)
    for violation in violations:
        say(f"{path.name}: {violation}")
    if violations:
        failed = _set_aside(path)
        raise GateError(f"{path.name}: {checker.NAME} would reject {len(violations)} nodes; kept as {failed.name}")
    say(f"{path.name}: all nodes are supported by {checker.NAME} {checker.VERSION}")


def _attach_golden(path: Path, inputs: verify.VerifyInputs, say: Say) -> None:
    if not verify.attach_golden(path, inputs):
        say(f"{path.name}: no detections in the golden images, so `verify` on the device cannot compare any")


def _set_aside(path: Path) -> Path:
    file = ModelFile(path)
    return file.rename(file.beside(".failed")).path


def versions() -> dict[str, str]:
    """Versions of the installed packages for making model files."""
    return describe_packages((*MAKERS, *runtime_packages()))

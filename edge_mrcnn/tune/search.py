"""Timing of all settings of all models, then evaluation from the fastest on, until one is accurate enough."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import runtimes
from edge_mrcnn.benchmark.rows import TOTAL, Benchmark, Row
from edge_mrcnn.benchmark.run import BenchmarkConfig, run_benchmark
from edge_mrcnn.benchmark.session import Plan
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.drop import Drop, is_usable, say_unusable
from edge_mrcnn.evaluation.evaluate import Evaluation, evaluate
from edge_mrcnn.evaluation.metrics import drop_interval
from edge_mrcnn.measure.files import file_sha256
from edge_mrcnn.report.models import open_model
from edge_mrcnn.report.reference_file import read_reference
from edge_mrcnn.tune.choice import Choice, sdk_versions
from runtimes.board import Board
from runtimes.errors import DataError, EdgeError, UsageError
from runtimes.progress import Progress, named, silent

"""Called with a description, the number of finished steps and the total number."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Settings of a search."""

    max_drop: float = 0.005
    """Maximum drop in box and mask AP against the reference, in [0, 1]."""
    limit: int | None = None
    """Maximum number of images for measuring accuracy; all if None."""
    pictures: int = 12
    """Maximum number of images for measuring speed, spread over the data."""
    plan: Plan = field(default_factory=Plan)
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads to try; 1, 2, 4 and so on up to the number of cores if empty."""
    openvino_precisions: tuple[str, ...] = ("f32",)
    devices: tuple[str, ...] = ("cpu",)
    """Devices to try if a runtime supports them."""
    evaluates_all: bool = False
    """Whether to continue evaluating after the choice."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Accuracy of a model, and its drop."""

    box_ap: float
    mask_ap: float
    box_drop: Drop
    mask_drop: Drop

    @property
    def worst(self) -> Drop:
        """The larger drop."""
        return max(self.box_drop, self.mask_drop, key=lambda drop: drop.value)

    def exceeds(self, limit: float) -> bool:
        """Whether box or mask AP dropped by more than allowed."""
        return self.box_drop.exceeds(limit) or self.mask_drop.exceeds(limit)


@dataclass(frozen=True)
class Attempt:
    """One setting of one model."""

    row: Row
    """Its speed."""
    accuracy: Accuracy | None
    """None if it was not evaluated, because a faster one had been chosen."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """All attempts, and the choice."""

    benchmark: Benchmark
    reference: str
    """File of the reference."""
    reference_ap: tuple[float, float]
    """Its box and mask AP."""
    data: str
    """The annotation file."""
    images: int
    """Number of images for accuracy."""
    max_drop: float
    attempts: tuple[Attempt, ...]
    """The attempts, fastest first."""

    @property
    def chosen(self) -> Attempt | None:
        """The fastest attempt that is accurate enough; None if there is none."""
        good = (a for a in self.attempts if a.accuracy and not a.accuracy.exceeds(self.max_drop))
        return next(good, None)


def tune(
    models: Sequence[Path],
    data: CocoData,
    config: TuneConfig,
    *,
    reference: Path | None = None,
    progress: Progress = silent,
) -> Tuning:
    """Find the fastest runtime, precision and number of threads within the allowed drop in accuracy.

    Args:
        models: Exported models.
        data: Data to measure accuracy on; its images are also used for timing.
        config: Settings of the search.
        reference: Reference for drops: a file of `report reference`, an export or a checkpoint; the FP32 model among
            the models if None.
        progress: Called after each step.

    Raises:
        UsageError: If no reference is given and there is no FP32 model.
        DataError: If a model and the reference have different classes of the data, or the reference is too poor.
        ModelFileError: If none of the models can be timed.
    """
    reference = reference or find_reference(models)
    base = evaluate_reference(reference, data, config.limit, progress)
    if not is_usable(base.box.ap, base.mask.ap):
        raise DataError(say_unusable(reference, base.box.ap, base.mask.ap))
    benchmark = run_benchmark(models, _timing(config, data), progress=progress)
    rows = sorted(benchmark.rows, key=lambda row: row.latency[TOTAL].p50)
    return Tuning(
        benchmark=benchmark,
        reference=str(reference),
        reference_ap=(base.box.ap, base.mask.ap),
        data=str(data.path),
        images=base.images,
        max_drop=config.max_drop,
        attempts=tuple(_attempt(rows, data, base, reference, config, progress)),
    )


def find_reference(models: Sequence[Path]) -> Path:
    """The first FP32 model that can be opened.

    Raises:
        UsageError: If there is none.
    """
    for path in models:
        try:
            if runtimes.read_card(path).precision == "fp32":
                return path
        except EdgeError:
            continue
    raise UsageError(
        "expected an FP32 model to measure the drop against: add one, or give a model or reference.json with "
        "--reference"
    )


def evaluate_reference(path: Path, data: CocoData, limit: int | None, progress: Progress) -> Evaluation:
    """The reference: recorded results, or a model that is evaluated now."""
    progress = named(progress, f"accuracy of {path.name}")
    if path.suffix == ".json":
        return read_reference(path).evaluate(data, limit=limit, progress=progress)
    model = open_model(path)
    with model.runtime:
        return model.evaluate(data, limit=limit, progress=progress)


def to_choice(tuning: Tuning, board: Board) -> Choice:
    """The record of the choice; there must be one."""
    assert tuning.chosen is not None and tuning.chosen.accuracy is not None
    row, accuracy = tuning.chosen.row, tuning.chosen.accuracy
    return Choice(
        file=Path(row.path).name,
        sha256=file_sha256(Path(row.path)),
        options=_options(row),
        board=board.identity,
        packages=sdk_versions(Path(row.path)),
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        figures={
            "latency_ms": round(row.latency[TOTAL].p50, 3),
            "fps": round(row.fps, 2),
            "box_drop": round(accuracy.box_drop.value, 5),
            "mask_drop": round(accuracy.mask_drop.value, 5),
            "max_drop": tuning.max_drop,
            "reference": tuning.reference,
            "data": tuning.data,
            "images": tuning.images,
        },
    )


def to_record(tuning: Tuning) -> dict[str, Any]:
    """All of it, ready for JSON."""
    chosen = tuning.chosen
    return {
        "reference": tuning.reference,
        "reference_ap": {"box": tuning.reference_ap[0], "mask": tuning.reference_ap[1]},
        "data": tuning.data,
        "images": tuning.images,
        "max_drop": tuning.max_drop,
        "chosen": tuning.attempts.index(chosen) if chosen else None,
        "attempts": [asdict(attempt) for attempt in tuning.attempts],
    }


def _timing(config: TuneConfig, data: CocoData) -> BenchmarkConfig:
    images = data.images[: config.limit]
    step = max(1, len(images) // config.pictures)
    return BenchmarkConfig(
        plan=config.plan,
        threads=config.threads,
        source=[image.path for image in images[::step]],
        pictures=config.pictures,
        draw=False,
        openvino_precisions=config.openvino_precisions,
        devices=config.devices,
    )


def _attempt(
    rows: Sequence[Row], data: CocoData, base: Evaluation, reference: Path, config: TuneConfig, progress: Progress
) -> list[Attempt]:
    """Rows, the fastest first, with their accuracy up to the first that is good enough; each model is evaluated
    once."""
    known: dict[tuple[object, ...], Accuracy] = {}
    attempts: list[Attempt] = []
    is_decided = False
    for row in rows:
        key = (row.path, *row.options.items())
        if key not in known and (config.evaluates_all or not is_decided):
            known[key] = _compare(base, _evaluate(row, data, base, reference, config.limit, progress), row.name)
        accuracy = known.get(key)
        is_decided = is_decided or (accuracy is not None and not accuracy.exceeds(config.max_drop))
        attempts.append(Attempt(row, accuracy))
    return attempts


def _evaluate(
    row: Row, data: CocoData, base: Evaluation, reference: Path, limit: int | None, progress: Progress
) -> Evaluation:
    if Path(row.path) == reference and row.options in ({}, {"precision": "f32"}):
        return base
    with runtimes.load(row.path, **_options(row)) as runtime:
        return evaluate(runtime, data, limit=limit, progress=named(progress, f"accuracy of {row.name}"))


def _options(row: Row) -> dict[str, Any]:
    """Options of `runtimes.load`."""
    return {**({"threads": row.threads} if row.threads else {}), **row.options}


def _compare(base: Evaluation, evaluation: Evaluation, name: str) -> Accuracy:
    if evaluation.categories != base.categories:
        raise DataError(f"{name}: its classes differ from those of the reference; tune models with the same classes")
    return Accuracy(
        box_ap=evaluation.box.ap,
        mask_ap=evaluation.mask.ap,
        box_drop=Drop(
            value=base.box.ap - evaluation.box.ap, interval=drop_interval(base.box_result, evaluation.box_result)
        ),
        mask_drop=Drop(
            value=base.mask.ap - evaluation.mask.ap, interval=drop_interval(base.mask_result, evaluation.mask_result)
        ),
    )

"""Times every way to run every model, then evaluates them from the fastest on, until one is accurate enough."""

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

"""Called with what is being done, the number of steps done and the number of all."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """What is tried, and what it may cost."""

    max_drop: float = 0.005
    """Box and mask AP that may be lost against the reference, in [0, 1]."""
    limit: int | None = None
    """Images at most that accuracy is measured on; all if None."""
    pictures: int = 12
    """Images at most that speed is measured on, spread over the data."""
    plan: Plan = field(default_factory=Plan)
    threads: tuple[int, ...] = ()
    """CPU threads to try; 1, 2, 4 and so on up to the number of cores if empty."""
    openvino_precisions: tuple[str, ...] = ("f32",)
    devices: tuple[str, ...] = ("cpu",)
    """Where models are tried, as far as their runtimes can."""
    evaluates_all: bool = False
    """Whether to go on evaluating when the choice is made."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What a model reaches, and loses."""

    box_ap: float
    mask_ap: float
    box_drop: Drop
    mask_drop: Drop

    @property
    def worst(self) -> Drop:
        """The larger loss."""
        return max(self.box_drop, self.mask_drop, key=lambda drop: drop.value)

    def exceeds(self, limit: float) -> bool:
        """Whether box or mask AP lost more than allowed."""
        return self.box_drop.exceeds(limit) or self.mask_drop.exceeds(limit)


@dataclass(frozen=True)
class Attempt:
    """One way to run one model."""

    row: Row
    """Its speed."""
    accuracy: Accuracy | None
    """None where it was not evaluated: a faster one had been chosen."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was tried, and what came of it."""

    benchmark: Benchmark
    reference: str
    """File that drops are counted from."""
    reference_ap: tuple[float, float]
    """Its box and mask AP."""
    data: str
    """The annotation file."""
    images: int
    """Images that accuracy was measured on."""
    max_drop: float
    attempts: tuple[Attempt, ...]
    """The fastest first."""

    @property
    def chosen(self) -> Attempt | None:
        """The fastest that is accurate enough; None where none is."""
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
    """Find the fastest runtime, precision and number of threads within the budget of accuracy.

    Args:
        models: Exported files.
        data: What accuracy is measured on; its pictures are timed.
        config: What is tried.
        reference: What drops are counted from: a file of `report reference`, an export or a checkpoint; the FP32 one
            among the models if None.
        progress: Told of every step.

    Raises:
        UsageError: If no reference is given and there is no FP32 model.
        DataError: If a model and the reference know different classes of the data, or the reference finds nothing.
        ModelFileError: If not one of the models can be timed.
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
    raise UsageError("no FP32 model among them to count the drop from: name one, or a reference.json, by --reference")


def evaluate_reference(path: Path, data: CocoData, limit: int | None, progress: Progress) -> Evaluation:
    """What drops are counted from: recorded answers, or a model that is run now."""
    progress = named(progress, f"accuracy of {path.name}")
    if path.suffix == ".json":
        return read_reference(path).evaluate(data, limit=limit, progress=progress)
    model = open_model(path)
    with model.runtime:
        return model.evaluate(data, limit=limit, progress=progress)


def to_choice(tuning: Tuning, board: Board) -> Choice:
    """The record of what was chosen; there must be something."""
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
    """Rows, the fastest first, with their accuracy up to the first that is good enough; each model is run once."""
    known: dict[tuple[object, ...], Accuracy] = {}
    attempts: list[Attempt] = []
    is_settled = False
    for row in rows:
        key = (row.path, *row.options.items())
        if key not in known and (config.evaluates_all or not is_settled):
            known[key] = _compare(base, _evaluate(row, data, base, reference, config.limit, progress), row.name)
        accuracy = known.get(key)
        is_settled = is_settled or (accuracy is not None and not accuracy.exceeds(config.max_drop))
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
    """Of `runtimes.load`."""
    return {**({"threads": row.threads} if row.threads else {}), **row.options}


def _compare(base: Evaluation, evaluation: Evaluation, name: str) -> Accuracy:
    if evaluation.categories != base.categories:
        raise DataError(f"{name}: knows other classes of the data than the reference: tune models of the same classes")
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

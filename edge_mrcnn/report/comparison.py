"""From opened models and data sets to the records of a report: one loop with the same images and metric for N
runtimes."""

from __future__ import annotations

import datetime
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TypeAlias

import numpy as np

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.agreement import compare
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.evaluation.evaluate import Evaluation, match_categories, read_sized
from edge_mrcnn.evaluation.metrics import ApResult, drop_interval
from edge_mrcnn.evaluation.pairing import pair
from edge_mrcnn.measure.files import file_sha256, file_size, unique_names
from edge_mrcnn.measure.latency import Percentiles, measure_latency
from edge_mrcnn.measure.surroundings import describe_device, describe_packages
from edge_mrcnn.report.footprint import measure_footprint
from edge_mrcnn.report.models import Model, count_layers, count_macs
from edge_mrcnn.report.reference_file import RecordedModel
from edge_mrcnn.report.rows import Comparison, DataSet, ModelFacts, ReportRow, Score
from runtimes.errors import DataError
from runtimes.progress import Progress, named, silent

Subject: TypeAlias = Model | RecordedModel
"""A model to compare: an opened one, or recorded results of one."""
"""Called with a description, the number of finished steps and the total number."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Settings of a comparison."""

    title: str = "Accuracy report"
    limit: int | None = None
    """Maximum number of images of each data set; all if None."""
    max_drop: float | None = None
    """Allowed drop in box and mask AP, in [0, 1]; None for no check."""
    timed_images: int = 24
    """Maximum number of images for measuring latency, at least 1."""
    timed_rounds: int = 3
    """Number of runs per image and model; the median counts."""
    measures_memory: bool = True
    """Whether each model is also opened in a process of its own, to measure its memory; takes a second or more."""


@dataclass(frozen=True)
class Measured:
    """The records of a report, and the detections for its pictures."""

    comparison: Comparison
    evaluations: dict[str, list[Evaluation]] = field(repr=False)
    """Data set label -> one evaluation per row."""


def compare_models(
    models: Sequence[Subject], data_sets: Mapping[str, CocoData], config: CompareConfig, *, progress: Progress = silent
) -> Measured:
    """Evaluate every model on every data set, time them interleaved, and measure the drop from the first model.

    Args:
        models: At least one; the first is the reference.
        data_sets: Label -> data set; the first one is used for the allowed drop and the latency.
        config: Settings of the comparison.
        progress: Called after each step.

    Raises:
        DataError: If a data set shares no class with a model, has no object of the shared classes, or if the models
            would be measured on different classes, or a recorded model on other annotations or images.
    """
    names = unique_names([model.path for model in models])
    for label, data in data_sets.items():
        _check_comparable(label, data, models, names, config.limit)
    evaluations = {
        label: _evaluate_all(label, data, models, names, config, progress) for label, data in data_sets.items()
    }
    frames = _first_frames(next(iter(data_sets.values())), config)
    latencies = _time_all(models, next(iter(evaluations.values())), frames, config, progress)
    facts = _gather_all(models, names, config, progress)
    comparison = Comparison(
        title=config.title,
        created=now(),
        max_drop=config.max_drop,
        data_sets=tuple(_describe_data(label, data, evaluations[label][0]) for label, data in data_sets.items()),
        rows=_make_rows(models, facts, latencies, evaluations),
        device=describe_device(),
        packages=describe_packages(),
        timing={"images": len(frames), "rounds": config.timed_rounds},
    )
    return Measured(comparison, evaluations)


def record_model(
    model: Model, data_sets: Mapping[str, CocoData], *, limit: int | None = None, progress: Progress = silent
) -> tuple[ModelFacts, dict[str, Evaluation]]:
    """Evaluate one model for a reference file.

    Returns:
        Facts about the model and its device; label -> evaluation.
    """
    name = model.path.name
    evaluations = {}
    for label, data in data_sets.items():
        told = named(progress, f"{name} on {label}")
        evaluations[label] = model.evaluate(data, limit=limit, progress=told)
    place = describe_device()["processor"] if model.device == "cpu" else model.device
    facts = replace(gather_facts(model, name), device=place, recorded=now(), packages=describe_packages())
    return facts, evaluations


def gather_facts(model: Model, name: str, *, measures_memory: bool = True) -> ModelFacts:
    """Facts about a model besides its accuracy and speed."""
    return ModelFacts(
        name=name,
        size_bytes=file_size(model.path),
        sha256=file_sha256(model.path),
        device=model.device,
        runs_as=model.runs_as,
        macs=count_macs(model.path),
        memory=measure_footprint(model) if measures_memory else None,
    )


def now() -> str:
    """The current time, ISO 8601 with time zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def score_of(evaluation: Evaluation, reference: Evaluation | None) -> Score:
    """One evaluation as a record, with its drop against another one on the same images."""
    names = evaluation.categories
    own = Score(
        box=evaluation.box,
        mask=evaluation.mask,
        box_per_class={names[c]: ap for c, ap in evaluation.box_per_class.items()},
        mask_per_class={names[c]: ap for c, ap in evaluation.mask_per_class.items()},
        box_costs=evaluation.box_costs,
        mask_costs=evaluation.mask_costs,
    )
    if reference is None:
        return own
    return replace(
        own,
        box_drop=_drop(reference.box_result, evaluation.box_result),
        mask_drop=_drop(reference.mask_result, evaluation.mask_result),
        agreement=compare(reference.results, evaluation.results, evaluation.image_ids),
        pairing=pair(reference.sightings, evaluation.sightings, evaluation.categories),
    )


def _drop(reference: ApResult, candidate: ApResult) -> Drop:
    lost = reference.summary.ap - candidate.summary.ap
    return Drop(value=lost, interval=drop_interval(reference, candidate))


def _evaluate_all(
    label: str,
    data: CocoData,
    models: Sequence[Subject],
    names: Sequence[str],
    config: CompareConfig,
    progress: Progress,
) -> list[Evaluation]:
    evaluations = []
    for model, name in zip(models, names, strict=True):
        told = named(progress, f"{name} on {label}")
        evaluations.append(model.evaluate(data, limit=config.limit, progress=told))
    return evaluations


def _check_comparable(
    label: str, data: CocoData, models: Sequence[Subject], names: Sequence[str], limit: int | None
) -> None:
    """Raise DataError unless all models are measured on the same classes, and the images show some of them."""
    known = []
    for model in models:
        pairs = match_categories(model.card, data.categories)
        known.append(set(pairs.values()))
    for categories, name in zip(known, names, strict=True):
        if categories != known[0]:
            odd = _class_names(data, categories ^ known[0])
            raise DataError(f"{label}: {names[0]} and {name} do not have the same classes; only one has {odd}")
    shown = [image.id for image in data.images[:limit]]
    if not _count_objects(data, shown, known[0]):
        wanted = _class_names(data, known[0])
        raise DataError(f"{label}: no image shows an object of {wanted}, so there is nothing to measure")


def _class_names(data: CocoData, categories: Iterable[int]) -> str:
    return ", ".join(data.categories[category] for category in sorted(categories))


def _count_objects(data: CocoData, image_ids: Sequence[int], categories: Container[int]) -> int:
    """Number of objects of some classes, without crowds."""
    count = 0
    for image_id in image_ids:
        for annotation in data.annotations(image_id):
            if annotation["category_id"] in categories and not annotation["iscrowd"]:
                count += 1
    return count


def _first_frames(data: CocoData, config: CompareConfig) -> list[np.ndarray]:
    """The images for measuring latency, (H, W, 3) uint8 RGB each."""
    return [read_sized(image) for image in data.images[: config.limit][: config.timed_images]]


def _time_all(
    models: Sequence[Subject],
    evaluations: Sequence[Evaluation],
    frames: Sequence[np.ndarray],
    config: CompareConfig,
    progress: Progress,
) -> list[dict[str, Percentiles]]:
    """The latency of each model: opened models are timed interleaved, recorded ones have their recorded latency."""
    told = named(progress, "latency, all models in turn")
    runtimes = [model.runtime for model in models if isinstance(model, Model)]
    timed = iter(measure_latency(runtimes, frames, rounds=config.timed_rounds, progress=told))
    latencies = []
    for model, evaluation in zip(models, evaluations, strict=True):
        latencies.append(next(timed) if isinstance(model, Model) else evaluation.latency)
    return latencies


def _gather_all(
    models: Sequence[Subject], names: Sequence[str], config: CompareConfig, progress: Progress
) -> list[ModelFacts]:
    """Facts about each model, with the cost of the checkpoint it was exported from, if that is among the models."""
    facts = []
    for done, (model, name) in enumerate(zip(models, names, strict=True), start=1):
        if isinstance(model, Model):
            facts.append(gather_facts(model, name, measures_memory=config.measures_memory))
        elif model.facts.name in names:
            facts.append(replace(model.facts, name=f"{model.facts.name} (recorded)"))
        else:
            facts.append(model.facts)
        progress("files and memory", done, len(models))

    macs = {fact.sha256: fact.macs for fact in facts}
    complete = []
    for model, fact in zip(models, facts, strict=True):
        complete.append(replace(fact, macs=fact.macs or macs.get(model.card.checkpoint_sha256)))
    return complete


def _make_rows(
    models: Sequence[Subject],
    facts: Sequence[ModelFacts],
    latencies: Sequence[dict[str, Percentiles]],
    evaluations: Mapping[str, list[Evaluation]],
) -> tuple[ReportRow, ...]:
    rows = []
    for index, (model, fact, latency) in enumerate(zip(models, facts, latencies, strict=True)):
        scores = {}
        for label, of_models in evaluations.items():
            reference = of_models[0] if index else None
            scores[label] = score_of(of_models[index], reference)
        rows.append(_make_row(model, fact, latency, scores))
    return tuple(rows)


def _make_row(
    model: Subject, facts: ModelFacts, latency: dict[str, Percentiles], scores: dict[str, Score]
) -> ReportRow:
    card = model.card
    return ReportRow(
        **vars(facts),
        target=card.target,
        precision=card.precision,
        input_size_hw=card.input_size_hw,
        parameters=card.parameters,
        latency=latency,
        scores=scores,
        layers={} if isinstance(model, RecordedModel) else count_layers(model.path),
        card=asdict(card),
    )


def _describe_data(label: str, data: CocoData, evaluation: Evaluation) -> DataSet:
    return DataSet(
        label=label,
        file=str(data.path),
        sha256=file_sha256(data.path),
        images=evaluation.images,
        objects=_count_objects(data, evaluation.image_ids, evaluation.categories),
        classes=tuple(evaluation.categories.values()),
    )

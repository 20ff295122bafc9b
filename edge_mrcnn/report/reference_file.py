"""Recorded results of the FP32 model: measured once on a machine with torch or a GPU, compared anywhere.

One JSON object: the model and its surroundings, and for each data set the hash of the annotations, the hash of every
image, and the detections as COCO results with compressed run lengths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.evaluation.evaluate import Evaluation, Evaluator
from edge_mrcnn.evaluation.image_results import ImageResults, Result
from edge_mrcnn.measure.files import file_sha256
from edge_mrcnn.measure.latency import Percentiles
from edge_mrcnn.report.footprint import Footprint
from edge_mrcnn.report.rows import ModelFacts, without_nan
from runtimes import ModelCard
from runtimes.errors import DataError, MissingFileError, ModelFileError, one_line
from runtimes.progress import Progress, silent

FORMAT = "edge-mrcnn-reference-1"


@dataclass(frozen=True)
class RecordedDataSet:
    """Results of the model on one data set."""

    label: str
    image_sha256: dict[int, str] = field(repr=False)
    """Image id -> hash of its file, in the order of evaluation."""
    categories: tuple[int, ...]
    """The data set's category ids that were evaluated."""
    latency: dict[str, Percentiles]
    results: ImageResults = field(repr=False)


@dataclass(frozen=True)
class RecordedModel:
    """A model that is not opened here, but whose results are recorded."""

    path: Path
    """The reference file."""
    card: ModelCard
    facts: ModelFacts
    """Facts about the model where it ran."""
    recordings: dict[str, RecordedDataSet] = field(repr=False)
    """Hash of the annotation file -> recorded results."""

    def evaluate(self, data: CocoData, *, limit: int | None = None, progress: Progress = silent) -> Evaluation:
        """Evaluate the recorded results.

        Raises:
            DataError: If the annotations, or an image's file, differ from those that were recorded.
        """
        recording = self._find(data)
        images = data.images[:limit]
        known = len(recording.image_sha256)
        if any(image.id not in recording.image_sha256 for image in images):
            raise DataError(f"{self.path}: has only the first {known} of these images; use --limit {known}")
        evaluator = Evaluator(data, recording.categories)
        for done, image in enumerate(images, start=1):
            _check_image(image, recording.image_sha256[image.id], self.path)
            evaluator.add(image.id, recording.results[image.id])
            progress("images", done, len(images))
        return evaluator.finish(recording.latency)

    def _find(self, data: CocoData) -> RecordedDataSet:
        recording = self.recordings.get(file_sha256(data.path))
        if recording is None:
            held = ", ".join(r.label for r in self.recordings.values())
            raise DataError(
                f"{data.path}: {self.path} was recorded on other annotations ({held}); use the same file, or record "
                "again with `edge-mrcnn report reference`"
            )
        return recording


def write_reference(
    path: Path, card: ModelCard, facts: ModelFacts, evaluations: Mapping[str, tuple[CocoData, Evaluation]]
) -> None:
    """Write a reference file; folders are made.

    Args:
        path: A .json file.
        card: The model card.
        facts: Further facts about the model.
        evaluations: Label -> data set and evaluation.
    """
    record = {
        "format": FORMAT,
        "facts": asdict(facts),
        "card": asdict(card),
        "data_sets": [_describe(label, *pair) for label, pair in evaluations.items()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(without_nan(record), separators=(",", ":")), encoding="utf-8")


def read_reference(path: Path) -> RecordedModel:
    """Read a reference file.

    Raises:
        MissingFileError: If there is no such file.
        ModelFileError: If it is damaged or not a reference file.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such reference file")
    with _refusing(path):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ModelFileError(
                f"{path}: has format {record['format']}, but this version reads format {FORMAT}: record it again"
            )
        memory = record["facts"].pop("memory")
        facts = ModelFacts(**record["facts"], memory=Footprint(**memory) if memory else None)
        card = ModelCard.from_json(json.dumps(record["card"]))
        recordings = {}
        for data_set in record["data_sets"]:
            recordings[data_set["annotations_sha256"]] = _record(data_set)
        return RecordedModel(path, card, facts, recordings)


def _describe(label: str, data: CocoData, evaluation: Evaluation) -> dict[str, Any]:
    wanted = set(evaluation.image_ids)
    by_id = {image.id: image for image in data.images if image.id in wanted}
    return {
        "label": label,
        "file": data.path.name,
        "annotations_sha256": file_sha256(data.path),
        "categories": list(evaluation.categories),
        "box": evaluation.box.by_name(),
        "mask": evaluation.mask.by_name(),
        "latency": {stage: asdict(time) for stage, time in evaluation.latency.items()},
        "images": [_describe_image(by_id[image_id], evaluation) for image_id in evaluation.image_ids],
    }


def _describe_image(image: CocoImage, evaluation: Evaluation) -> dict[str, Any]:
    return {
        "id": image.id,
        "file": image.path.name,
        "sha256": _hash(image),
        "results": [_without_image(result) for result in evaluation.results[image.id]],
    }


def _record(data_set: dict[str, Any]) -> RecordedDataSet:
    by_image = ImageResults()
    image_sha256 = {}
    for image in data_set["images"]:
        image_sha256[image["id"]] = image["sha256"]
        results = [{"image_id": image["id"], **result} for result in image["results"]]
        by_image.add(image["id"], results)
    return RecordedDataSet(
        label=data_set["label"],
        image_sha256=image_sha256,
        categories=tuple(data_set["categories"]),
        latency={stage: Percentiles(**time) for stage, time in data_set["latency"].items()},
        results=by_image,
    )


def _without_image(result: Result) -> Result:
    return {key: value for key, value in result.items() if key != "image_id"}


def _check_image(image: CocoImage, expected: str, reference: Path) -> None:
    if not image.path.is_file():
        raise MissingFileError(f"{image.path}: image not found, but the annotations list it")
    if _hash(image) != expected:
        raise DataError(f"{image.path}: differs from the image that {reference} was recorded on; copy the same files")


def _hash(image: CocoImage) -> str:
    return hashlib.sha256(image.path.read_bytes()).hexdigest()


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:  # any exception that a manipulated record can cause
        raise ModelFileError(
            f"{path}: not a file that `edge-mrcnn report reference` wrote ({one_line(error)})"
        ) from error

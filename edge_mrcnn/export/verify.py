"""Verification that an exported file has the detections of the torch model, before it is returned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import runtimes
from edge_mrcnn.export.pictures import TRIALS, NamedPicture, choose_pictures
from runtimes import golden
from runtimes.base import Array, RawOutputs, Runtime
from runtimes.parity import Parity, Tolerance, compare_outputs
from runtimes.preprocess import letterbox, read_image

PHOTOGRAPH = Path(__file__).with_name("astronaut.jpg")
"""NASA, Eileen Collins, public domain; a photograph for models without calibration images."""

FP32 = golden.EXPECTED["fp32"]
FP16 = golden.EXPECTED["fp16"]
INT8 = Tolerance(box_px=np.inf, score=np.inf, mask=np.inf, matched=0.8, surplus=np.inf)
"""The accuracy of an INT8 file is measured by a report; this only detects a complete failure."""


@dataclass(frozen=True)
class VerifyInputs:
    """The input tensors for comparing a model file, (1, H, W, 3) uint8 RGB each, and torch's outputs for them."""

    drawings: list[NamedPicture]
    """An empty, a sparse and a crowded one with the reference's outputs; they become the golden tensors."""
    photograph: Array
    """A photograph."""
    pictures: list[Array]
    """Images of the model's domain and a mosaic of them; may be empty."""
    outputs: list[RawOutputs]
    """The reference's outputs for each of `tensors`, computed once, because a heavy model takes seconds for each."""

    @property
    def tensors(self) -> list[Array]:
        """All of them."""
        return [*(image for _, image, _ in self.drawings), self.photograph, *self.pictures]

    @property
    def picture_outputs(self) -> list[RawOutputs]:
        """The reference's outputs for `pictures`."""
        return self.outputs[len(self.outputs) - len(self.pictures) :]


def make_inputs(reference: Runtime, pictures: Iterable[Array], *, trials: int = TRIALS) -> VerifyInputs:
    """The inputs for comparing the files of a model.

    Args:
        reference: The torch model.
        pictures: Letterboxed (1, H, W, 3) uint8 images of its domain; may be empty.
        trials: Number of drawings from which the golden ones are chosen.
    """
    card, pictures = reference.card, list(pictures)
    photograph, _ = letterbox(read_image(PHOTOGRAPH), card)
    crowd = [_crowd(pictures, *card.input_size_hw)] if pictures else []
    drawings = choose_pictures(reference, trials=trials)
    photographs = [photograph, *pictures, *crowd]
    outputs = [output for _, _, output in drawings] + [reference.run(tensor) for tensor in photographs]
    return VerifyInputs(drawings, photograph, [*pictures, *crowd], outputs)


def with_outputs_of(other: Runtime, inputs: VerifyInputs) -> VerifyInputs:
    """The same tensors with the outputs of another torch model."""
    outputs = [other.run(tensor) for tensor in inputs.tensors]
    names = (name for name, _, _ in inputs.drawings)
    drawings = list(zip(names, inputs.tensors, outputs, strict=False))
    return replace(inputs, drawings=drawings, outputs=outputs)


def compare(
    reference: Runtime, artefact: Runtime, tensors: Iterable[Array], tolerance: Tolerance, *, min_score: float = 0.0
) -> Parity:
    """Run both on the same input tensors and match their detections.

    Args:
        reference: The torch model.
        artefact: The exported model.
        tensors: (1, H, W, 3) uint8 RGB each.
        tolerance: Which detections count, and the quantile of the differences.
        min_score: Only detections above this score count.
    """
    tensors = list(tensors)
    outputs = map(reference.run, tensors), map(artefact.run, tensors)
    return compare_outputs(*outputs, reference.card, tolerance, min_score=min_score)


LEAST_MATCHED = 0.95
"""Minimum share of the detections that must be matched in spite of rounding."""


def allow_rounding(tolerance: Tolerance, rounding: Parity) -> Tolerance:
    """Tolerance of a model file if rounding alone changes the model's outputs.

    If scores are nearly equal, the last bit decides which of two boxes suppresses the other.

    Args:
        tolerance: The usual tolerance.
        rounding: Difference between torch's outputs and those of the same model with other last bits of its weights.

    Returns:
        Twice the effect of rounding, if that is more than the usual tolerance; but at least `LEAST_MATCHED` matched.
    """
    total = max(rounding.detections, 1)
    lost = 2 * (1 - rounding.matched / total)
    return replace(
        tolerance,
        matched=min(tolerance.matched, max(LEAST_MATCHED, 1 - lost)),
        surplus=max(tolerance.surplus, min(1 - LEAST_MATCHED, 2 * rounding.surplus / total)),
        box_px=max(tolerance.box_px, 2 * rounding.box_px),
        score=max(tolerance.score, 2 * rounding.score),
        mask=max(tolerance.mask, 2 * rounding.mask),
    )


def worst_of(tries: Sequence[Parity]) -> Parity:
    """The worst of several comparisons of the same detections."""
    return Parity(
        images=tries[0].images,
        detections=tries[0].detections,
        matched=min(one.matched for one in tries),
        surplus=max(one.surplus for one in tries),
        box_px=max(one.box_px for one in tries),
        score=max(one.score for one in tries),
        mask=max(one.mask for one in tries),
    )


def typical(tolerance: Tolerance) -> Tolerance:
    """The usual tolerance for half of the differences, which rounding of a few scores cannot exceed."""
    return replace(tolerance, quantile=0.5, matched=LEAST_MATCHED, surplus=1 - LEAST_MATCHED)


def attach_golden(path: Path, inputs: VerifyInputs) -> int:
    """Store the drawings, and the outputs of this file and of torch for them, in the file.

    Returns:
        The number of detections that a device will check.
    """
    with runtimes.load(path) as artefact:
        record = golden.make_record(artefact, inputs.drawings)
        detections = golden.count_detections(record, artefact.card)
    golden.attach(path, record)  # after the runtime is closed: this reads the whole file into memory
    return detections


def _crowd(pictures: list[Array], height: int, width: int) -> Array:
    tiles = [pictures[i % len(pictures)][0, ::2, ::2] for i in range(4)]
    top, bottom = np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)
    return np.concatenate([top, bottom], 0)[None, :height, :width]

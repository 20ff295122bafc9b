"""Does an artefact find what the torch model finds? Run before anything is handed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import runtimes
from edge_mrcnn.export.pictures import TRIALS, NamedPicture, choose_pictures
from runtimes import golden
from runtimes.base import Array, RawOutputs, Runtime
from runtimes.parity import Parity, Tolerance, compare_answers
from runtimes.preprocess import letterbox, read_image

PHOTOGRAPH = Path(__file__).with_name("astronaut.jpg")
"""NASA, Eileen Collins, public domain; a real picture for those who give none."""

FP32 = golden.EXPECTED["fp32"]
FP16 = golden.EXPECTED["fp16"]
INT8 = Tolerance(box_px=np.inf, score=np.inf, mask=np.inf, matched=0.8, surplus=np.inf)
"""An INT8 artefact is judged by AP, in a report; here only a collapse is caught."""


@dataclass(frozen=True)
class VerifyInputs:
    """The input tensors that an artefact is compared on, (1, H, W, 3) uint8 RGB each, and torch's answers to them."""

    drawings: list[NamedPicture]
    """An empty, a sparse and a crowded one with the reference's answers; they become the golden tensors."""
    photograph: Array
    """A real picture."""
    pictures: list[Array]
    """Pictures of the model's own world and a crowd of them; may be none."""
    answers: list[RawOutputs]
    """The reference's answer to each of `tensors`: a heavy model takes seconds for each, so it is asked once."""

    @property
    def tensors(self) -> list[Array]:
        """All of them."""
        return [*(image for _, image, _ in self.drawings), self.photograph, *self.pictures]

    @property
    def picture_answers(self) -> list[RawOutputs]:
        """The reference's answers to `pictures`."""
        return self.answers[len(self.answers) - len(self.pictures) :]


def make_inputs(reference: Runtime, pictures: Iterable[Array], *, trials: int = TRIALS) -> VerifyInputs:
    """What to compare the artefacts of a model on.

    Args:
        reference: The torch model.
        pictures: Letterboxed (1, H, W, 3) uint8 images of its own world; may be none.
        trials: Drawings from which the golden ones are chosen.
    """
    card, pictures = reference.card, list(pictures)
    photograph, _ = letterbox(read_image(PHOTOGRAPH), card)
    crowd = [_crowd(pictures, *card.input_size_hw)] if pictures else []
    drawings = choose_pictures(reference, trials=trials)
    photographs = [photograph, *pictures, *crowd]
    answers = [answer for _, _, answer in drawings] + [reference.run(tensor) for tensor in photographs]
    return VerifyInputs(drawings, photograph, [*pictures, *crowd], answers)


def answered_by(other: Runtime, inputs: VerifyInputs) -> VerifyInputs:
    """The same tensors with the answers of another torch model."""
    answers = [other.run(tensor) for tensor in inputs.tensors]
    names = (name for name, _, _ in inputs.drawings)
    drawings = list(zip(names, inputs.tensors, answers, strict=False))
    return replace(inputs, drawings=drawings, answers=answers)


def compare(
    reference: Runtime, artefact: Runtime, tensors: Iterable[Array], tolerance: Tolerance, *, min_score: float = 0.0
) -> Parity:
    """Run both on the same input tensors and match their detections.

    Args:
        reference: The torch model.
        artefact: What was exported from it.
        tensors: (1, H, W, 3) uint8 RGB each.
        tolerance: Which detections count, and which quantile of the differences is told.
        min_score: Only detections above this score count.
    """
    tensors = list(tensors)
    answers = map(reference.run, tensors), map(artefact.run, tensors)
    return compare_answers(*answers, reference.card, tolerance, min_score=min_score)


LEAST_MATCHED = 0.95
"""Share of the detections that must be found whatever rounding does."""


def allow_rounding(tolerance: Tolerance, rounding: Parity) -> Tolerance:
    """What an artefact may differ by, where rounding alone changes the model's answers.

    Where scores are nearly equal, the last bit decides which of two boxes suppresses the other.

    Args:
        tolerance: The usual one.
        rounding: Of torch's answers with those of the same model whose weights have another last bit.

    Returns:
        Twice of what rounding does, where that is more than the usual; but never fewer than `LEAST_MATCHED` found.
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
    """What several comparisons of the same detections found at worst."""
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
    """The usual tolerance for half of the differences, which no rounding of a few scores excuses."""
    return replace(tolerance, quantile=0.5, matched=LEAST_MATCHED, surplus=1 - LEAST_MATCHED)


def attach_golden(path: Path, inputs: VerifyInputs) -> int:
    """Put the drawings, and what an artefact and torch answer to them, into its file.

    Returns:
        The number of detections that a device will be checked on.
    """
    with runtimes.load(path) as artefact:
        record = golden.make_record(artefact, inputs.drawings)
        detections = golden.count_detections(record, artefact.card)
    golden.attach(path, record)  # the whole file is in memory here, and a runtime would hold it again
    return detections


def _crowd(pictures: list[Array], height: int, width: int) -> Array:
    tiles = [pictures[i % len(pictures)][0, ::2, ::2] for i in range(4)]
    top, bottom = np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)
    return np.concatenate([top, bottom], 0)[None, :height, :width]

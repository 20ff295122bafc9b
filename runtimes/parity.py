"""How far two answers to the same images lie apart: detections are matched by class and overlap, then compared.

Export holds an artefact against torch by this, and a device holds an artefact against what it answered elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array, RawOutputs
from runtimes.model_card import ModelCard

FEW = 10
"""Of fewer detections all must be found."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an answer may be from the expected one."""

    box_px: float = 0.05
    """Largest difference of a box coordinate, in input pixels."""
    score: float = 1e-4
    """Largest difference of a score."""
    mask: float = 1e-3
    """Largest difference of a mask probability."""
    matched: float = 0.99
    """Smallest share of the expected detections that must be found, in [0, 1].

    Not all of a hundred: where the best P proposals are kept, rounding decides between equal scores for the last place.
    So one may be missing, and one be found in its place, of `FEW` or more.
    """
    surplus: float = 0.01
    """How many may be found beside them, as a share of the expected."""
    margin: float = 1e-4
    """Detections whose score is this close to where the graph cuts do not count: rounding decides on them."""
    quantile: float = 1.0
    """Which of the differences is held against the limits: 1 is the largest, 0.5 the median."""

    def __str__(self) -> str:
        limits = (
            ("boxes", self.box_px, " px"),
            ("scores", self.score, ""),
            ("masks", self.mask, ""),
        )
        within = [f"{what} within {limit:g}{unit}" for what, limit, unit in limits if np.isfinite(limit)]
        return ", ".join([f"{self.matched:.0%} matched", *within])


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What a comparison on some images found."""

    images: int
    """Images compared."""
    detections: int
    """Expected detections that count: not within the margin of a threshold."""
    matched: int
    """Those of them that were found: same class, IoU above one half."""
    surplus: int
    """Detections that count and were not expected."""
    box_px: float
    """Difference of the box coordinates among the matched, in input pixels, at the tolerance's quantile."""
    score: float
    """Difference of the scores, likewise."""
    mask: float
    """Difference of the mask probabilities, likewise."""

    def passes(self, tolerance: Tolerance) -> bool:
        """Whether every figure is inside."""
        spare = 1 if self.detections >= FEW else 0
        may_miss = max(spare, (1 - tolerance.matched) * self.detections)
        may_add = max(spare, tolerance.surplus * max(self.detections, 1))
        missed = self.detections - self.matched
        finds_the_same = missed <= may_miss + 1e-9 and self.surplus <= may_add
        is_near = self.box_px <= tolerance.box_px and self.score <= tolerance.score and self.mask <= tolerance.mask
        return finds_the_same and is_near

    def __str__(self) -> str:
        beside = f" and {self.surplus} others" if self.surplus else ""
        return (
            f"{self.matched}/{self.detections} detections{beside} of {self.images} images matched, largest difference: "
            f"box {self.box_px:.2g} px, score {self.score:.2g}, mask {self.mask:.2g}"
        )


def compare_answers(
    expected: Iterable[RawOutputs],
    found: Iterable[RawOutputs],
    card: ModelCard,
    tolerance: Tolerance,
    *,
    min_score: float = 0.0,
) -> Parity:
    """Match and compare the answers to each image.

    Args:
        expected: Answer to each image. May hold fewer masks than boxes: those of the first rows.
        found: Answer to each image, dead rows and all.
        card: Thresholds of the model.
        tolerance: Which detections count, and which quantile of the differences is told.
        min_score: Only detections above this score count.
    """
    floor = max(min_score, card.score_threshold)
    images = detections = surplus = 0
    differences: list[tuple[float, float, float | None]] = []
    for ours, theirs in zip(expected, map(live_rows, found), strict=True):
        our_counted = _counted(ours, card, floor, tolerance.margin)
        their_counted = _counted(theirs, card, floor, tolerance.margin)
        images += 1
        detections += int(our_counted.sum())
        for our_row, their_row in match(ours, theirs):
            their_counted[their_row] = False  # was expected
            if our_counted[our_row]:
                differences.append(_difference(ours, theirs, our_row, their_row))
        surplus += int(their_counted.sum())
    return Parity(
        images=images,
        detections=detections,
        matched=len(differences),
        surplus=surplus,
        box_px=_quantile([box_px for box_px, _, _ in differences], tolerance.quantile),
        score=_quantile([score for _, score, _ in differences], tolerance.quantile),
        mask=_quantile([mask for _, _, mask in differences], tolerance.quantile),
    )


def live_rows(raw: RawOutputs) -> RawOutputs:
    """Copies of the rows whose score is above 0; where there are fewer masks than rows, of the first of them."""
    rows = raw.scores > 0
    return RawOutputs(*(np.array(values[rows[: len(values)]]) for values in raw))


def match(ours: RawOutputs, theirs: RawOutputs) -> list[tuple[int, int]]:
    """Greedy pairs (our row, their row) of the same class with the highest IoU above one half, best score first."""
    if not len(theirs.boxes):
        return []
    is_same_class = ours.labels[:, None] == theirs.labels[None]
    iou = box_iou(ours.boxes, theirs.boxes) * is_same_class
    pairs = []
    for row, overlaps in enumerate(iou):
        other = int(overlaps.argmax())
        if overlaps[other] > 0.5:
            iou[:, other] = 0
            pairs.append((row, other))
    return pairs


def box_iou(a: Array, b: Array) -> Array:
    """(N, 4) and (M, 4) xyxy boxes to (N, M) intersection over union."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clip(0).prod(-1)
    area_a = (a[:, 2:] - a[:, :2]).prod(-1)
    area_b = (b[:, 2:] - b[:, :2]).prod(-1)
    union = area_a[:, None] + area_b[None] - inter
    iou: Array = inter / np.maximum(union, 1e-9)
    return iou


def _counted(rows: RawOutputs, card: ModelCard, floor: float, margin: float) -> Array:
    """(n,) bool: rows that are there whatever the rounding. Where D rows are full, the last score is a threshold."""
    is_full = len(rows.scores) >= card.max_detections
    cut = rows.scores[-1] if is_full else 0.0
    counted: Array = rows.scores > max(floor, cut) + margin
    return counted


def _difference(ours: RawOutputs, theirs: RawOutputs, mine: int, other: int) -> tuple[float, float, float | None]:
    """The largest difference of a pair's boxes, scores and masks; None where the mask was not kept."""
    box_px = float(np.abs(ours.boxes[mine] - theirs.boxes[other]).max())
    score = float(abs(ours.scores[mine] - theirs.scores[other]))
    if mine >= len(ours.masks):
        return box_px, score, None
    mask = float(np.abs(ours.masks[mine] - theirs.masks[other]).max())
    return box_px, score, mask


def _quantile(values: Iterable[float | None], quantile: float) -> float:
    known = [value for value in values if value is not None]
    return float(np.quantile(known, quantile)) if known else 0.0

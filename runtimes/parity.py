"""Differences between two runs on the same images: detections are matched by class and overlap, then compared.

Export compares a model file with torch this way, and a device compares a model file with its recorded outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array, RawOutputs
from runtimes.model_card import ModelCard

FEW = 10
"""With fewer detections than this, all must be matched."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Maximum difference from the expected outputs."""

    box_px: float = 0.05
    """Maximum difference of a box coordinate, in input pixels."""
    score: float = 1e-4
    """Maximum difference of a score."""
    mask: float = 1e-3
    """Maximum difference of a mask probability."""
    matched: float = 0.99
    """Minimum share of the expected detections that must be matched, in [0, 1].

    It is below 1 because of the limit of P proposals: with equal scores, rounding decides which proposal is the last.
    So one detection may be missing, and another one appear in its place, if there are `FEW` or more.
    """
    surplus: float = 0.01
    """Maximum number of extra detections, as a share of the expected ones."""
    margin: float = 1e-4
    """Detections whose score is this close to a threshold of the graph do not count, because rounding decides on
    them."""
    quantile: float = 1.0
    """Quantile of the differences that is compared with the limits: 1 is the largest, 0.5 the median."""

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
    """Result of a comparison on some images."""

    images: int
    """Number of compared images."""
    detections: int
    """Number of expected detections that count: those not within the margin of a threshold."""
    matched: int
    """Number of them that are matched: same class, IoU above 0.5."""
    surplus: int
    """Number of extra detections that count."""
    box_px: float
    """Difference of the box coordinates of matched detections, in input pixels, at the tolerance's quantile."""
    score: float
    """Difference of the scores, in the same way."""
    mask: float
    """Difference of the mask probabilities, in the same way."""

    def passes(self, tolerance: Tolerance) -> bool:
        """Whether all values are within the tolerance."""
        spare = 1 if self.detections >= FEW else 0
        may_miss = max(spare, (1 - tolerance.matched) * self.detections)
        may_add = max(spare, tolerance.surplus * max(self.detections, 1))
        missed = self.detections - self.matched
        finds_the_same = missed <= may_miss + 1e-9 and self.surplus <= may_add
        is_near = self.box_px <= tolerance.box_px and self.score <= tolerance.score and self.mask <= tolerance.mask
        return finds_the_same and is_near

    def __str__(self) -> str:
        beside = f" and {self.surplus} extra" if self.surplus else ""
        return (
            f"{self.matched}/{self.detections} detections{beside} of {self.images} images matched, largest difference: "
            f"box {self.box_px:.2g} px, score {self.score:.2g}, mask {self.mask:.2g}"
        )


def compare_outputs(
    expected: Iterable[RawOutputs],
    found: Iterable[RawOutputs],
    card: ModelCard,
    tolerance: Tolerance,
    *,
    min_score: float = 0.0,
) -> Parity:
    """Match and compare the outputs for each image.

    Args:
        expected: Expected outputs for each image. They may have fewer masks than boxes: those of the first rows.
        found: Outputs for each image, unused rows included.
        card: Thresholds of the model.
        tolerance: Which detections count, and the quantile of the differences.
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
            their_counted[their_row] = False  # matches an expected detection
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
    """Copies of the rows with a score above 0; if there are fewer masks than rows, they belong to the first rows."""
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
    """(n,) bool: rows that exist whatever the rounding. If all D rows are used, the last score acts as a threshold."""
    is_full = len(rows.scores) >= card.max_detections
    cut = rows.scores[-1] if is_full else 0.0
    counted: Array = rows.scores > max(floor, cut) + margin
    return counted


def _difference(ours: RawOutputs, theirs: RawOutputs, mine: int, other: int) -> tuple[float, float, float | None]:
    """The largest differences of a pair's boxes, scores and masks; None if the mask was not recorded."""
    box_px = float(np.abs(ours.boxes[mine] - theirs.boxes[other]).max())
    score = float(abs(ours.scores[mine] - theirs.scores[other]))
    if mine >= len(ours.masks):
        return box_px, score, None
    mask = float(np.abs(ours.masks[mine] - theirs.masks[other]).max())
    return box_px, score, mask


def _quantile(values: Iterable[float | None], quantile: float) -> float:
    known = [value for value in values if value is not None]
    return float(np.quantile(known, quantile)) if known else 0.0

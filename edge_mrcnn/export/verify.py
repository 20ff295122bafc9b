"""Does an artefact find what the torch model finds? Run before anything is handed over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array, RawOutputs, Runtime

TINY = 1e-4


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an artefact may be from torch."""

    box_px: float = 0.05
    """Largest difference of a box coordinate, in input pixels."""
    score: float = 1e-4
    """Largest difference of a score."""
    mask: float = 1e-3
    """Largest difference of a mask probability."""
    matched: float = 1.0
    """Smallest share of torch's detections that must be found again, in [0, 1]."""


FP32 = Tolerance()
INT8 = Tolerance(box_px=np.inf, score=np.inf, mask=np.inf, matched=0.8)
"""An INT8 artefact is judged by AP, in a report; here only a collapse is caught."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What was found by comparing an artefact with torch on some images."""

    images: int
    """Images compared."""
    detections: int
    """Torch's detections that count: not within `TINY` of a threshold or tie."""
    matched: int
    """Those of them that the artefact has too: same class, IoU above one half."""
    box_px: float
    """Largest difference of a box coordinate among the matched, in input pixels."""
    score: float
    """Largest difference of a score."""
    mask: float
    """Largest difference of a mask probability."""

    def passes(self, tolerance: Tolerance) -> bool:
        """Whether every figure is inside."""
        enough = self.matched >= tolerance.matched * self.detections
        close = self.box_px <= tolerance.box_px and self.score <= tolerance.score and self.mask <= tolerance.mask
        return enough and close

    def __str__(self) -> str:
        return (
            f"{self.matched}/{self.detections} detections of {self.images} images matched, largest difference: "
            f"box {self.box_px:.2g} px, score {self.score:.2g}, mask {self.mask:.2g}"
        )


def compare(reference: Runtime, artefact: Runtime, tensors: Iterable[Array], *, min_score: float = 0.0) -> Parity:
    """Run both on the same input tensors and match their detections.

    Args:
        reference: The torch model.
        artefact: What was exported from it.
        tensors: (1, H, W, 3) uint8 RGB each.
        min_score: Only torch's detections above this count.
    """
    card = reference.card
    floor = max(min_score, card.score_threshold)
    total = found = images = 0
    worst = np.zeros(3)
    for tensor in tensors:
        images += 1
        ours, theirs = reference.run(tensor), _live(artefact.run(tensor))
        cut = ours.scores[-1] if len(ours.scores) == card.max_detections else 0.0
        counted = np.flatnonzero(ours.scores > max(floor, cut) + TINY)
        pairs = match(ours, theirs, counted)
        total, found = total + len(counted), found + len(pairs)
        if pairs:
            worst = np.maximum(worst, _differences(ours, theirs, pairs))
    box_px, score, mask = (float(value) for value in worst)
    return Parity(images=images, detections=total, matched=found, box_px=box_px, score=score, mask=mask)


def match(ours: RawOutputs, theirs: RawOutputs, rows: Array) -> list[tuple[int, int]]:
    """Greedy pairs (our row, their row) of the same class with the highest IoU above one half."""
    iou = box_iou(ours.boxes[rows], theirs.boxes) * (ours.labels[rows, None] == theirs.labels[None])
    pairs = []
    for index, row in enumerate(rows):
        if iou.shape[1] and iou[index].max() > 0.5:
            other = int(iou[index].argmax())
            iou[:, other] = 0
            pairs.append((int(row), other))
    return pairs


def box_iou(a: Array, b: Array) -> Array:
    """(N, 4) and (M, 4) xyxy boxes to (N, M) intersection over union."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = (high - low).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    iou: Array = inter / np.maximum(areas[0][:, None] + areas[1][None] - inter, 1e-9)
    return iou


def trial_tensors(card_size_hw: tuple[int, int], pictures: Iterable[Array], seed: int = 0) -> list[Array]:
    """Inputs to compare on: an empty one, noise, the pictures, and a crowd of all pictures tiled small.

    Args:
        card_size_hw: Input size in pixels.
        pictures: Letterboxed (1, H, W, 3) uint8 images; may be none.
        seed: Of the noise.
    """
    height, width = card_size_hw
    pictures = list(pictures)
    noise = np.random.default_rng(seed).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    empty = np.full_like(noise, 128)
    return [empty, noise, *pictures, *([_crowd(pictures, height, width)] if pictures else [])]


def _crowd(pictures: list[Array], height: int, width: int) -> Array:
    tiles = [pictures[i % len(pictures)][0, ::2, ::2] for i in range(4)]
    top, bottom = np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)
    return np.concatenate([top, bottom], 0)[None, :height, :width]


def _live(raw: RawOutputs) -> RawOutputs:
    rows = raw.scores > 0
    return RawOutputs(*(np.array(values[rows]) for values in raw))


def _differences(ours: RawOutputs, theirs: RawOutputs, pairs: list[tuple[int, int]]) -> Array:
    mine, others = (list(rows) for rows in zip(*pairs, strict=True))
    return np.array(
        [np.abs(getattr(ours, f)[mine] - getattr(theirs, f)[others]).max() for f in ("boxes", "scores", "masks")]
    )

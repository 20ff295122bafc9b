"""Object by object: which of the annotated objects a candidate lost or gained, and how well both hold the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_mrcnn.evaluation.agreement import CONFIDENT
from edge_mrcnn.evaluation.matching import SIZES, Array, ImageMatches

SCORES = {"50–70 %": (CONFIDENT, 0.7), "70–90 %": (0.7, 0.9), "90–100 %": (0.9, 1.0 + 1e-9)}
"""Label to the scores above which and up to which a detection belongs to it."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """What one model shows a viewer, N objects of all images in turn: found if a confident box meets it at IoU 0.5."""

    categories: Array
    """(N,) category ids, crowds left out."""
    areas: Array
    """(N,) pixels, as annotated."""
    scores: Array
    """(N,) score of the detection that found the object, nan where none did, as the two below."""
    box_ious: Array
    """(N,) IoU of its box with the object's."""
    mask_ious: Array
    """(N,) IoU of its mask with the object's."""
    extra_categories: Array
    """(E,) category ids of confident detections that meet no object."""
    extra_areas: Array
    """(E,) pixels of their boxes."""
    extra_scores: Array

    @property
    def found(self) -> Array:
        """(N,) bool."""
        return ~np.isnan(self.scores)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A candidate beside the reference, on some of the objects."""

    objects: int
    """Annotated objects."""
    found: int
    """Of those, found by the reference."""
    lost: int
    """Found by the reference alone."""
    gained: int
    """Found by the candidate alone."""
    extra: int
    """Detections that meet no object: the candidate's number minus the reference's."""
    box_iou: float
    """Mean change of the box's IoU with the object, where both found it; nan without any, as the two below."""
    mask_iou: float
    """The same of the mask."""
    score: float
    """Mean change of the score."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """All objects, and the same by size, by class and by the reference's score."""

    total: Change
    by_size: dict[str, Change] = field(default_factory=dict)
    by_class: dict[str, Change] = field(default_factory=dict)
    """Classes with objects; the largest losses first."""
    by_score: dict[str, Change] = field(default_factory=dict)
    """Score of the reference, or the candidate's for what it alone found; objects that neither found are in none."""


class SightingMeter:
    """Takes matched images one by one."""

    def __init__(self) -> None:
        self._images: dict[int, tuple[Array, ...]] = {}

    def add(self, image_id: int, boxes: ImageMatches, mask_ious: Array) -> None:
        """Take one image.

        Args:
            image_id: Images count in ascending order of it.
            boxes: The matches of boxes.
            mask_ious: (D, G) IoU of the masks of the same detections and objects.
        """
        proper = ~boxes.is_crowd
        matches = np.where(boxes.scores > CONFIDENT, boxes.matches[0, 0], -1)
        found = np.full((3, proper.size), np.nan)
        seen = np.flatnonzero(matches >= 0)
        met = matches[seen]
        found[:, met] = boxes.scores[seen], boxes.ious[seen, met], mask_ious[seen, met]
        extra = (boxes.scores > CONFIDENT) & (boxes.matches[0, 0] < 0)
        self._images[image_id] = (
            boxes.true_categories[proper], boxes.true_areas[proper], *found[:, proper],
            boxes.categories[extra], boxes.areas[extra], boxes.scores[extra],
        )  # fmt: skip

    def result(self) -> Sightings:
        """All images so far."""
        images = [self._images[image_id] for image_id in sorted(self._images)]
        return Sightings(*(np.concatenate(column) for column in zip(*images, strict=True)))


def pair(reference: Sightings, candidate: Sightings, names: Mapping[int, str]) -> Pairing:
    """Compare two models on the same objects.

    Args:
        reference: The model that is compared with.
        candidate: Another one on the same images and categories.
        names: Category id to name.
    """
    models = (reference, candidate)
    scores = np.where(reference.found, reference.scores, candidate.scores)
    sizes = {name: limits for name, limits in SIZES.items() if name != "all"}
    by_class = {
        name: _change(*models, reference.categories == category, [s.extra_categories == category for s in models])
        for category, name in names.items()
        if (reference.categories == category).any()
    }
    return Pairing(
        total=_change(*models, np.ones(scores.size, dtype=bool), [s.extra_scores > 0 for s in models]),
        by_size={
            name: _change(*models, _between(reference.areas, limits), [_between(s.extra_areas, limits) for s in models])
            for name, limits in sizes.items()
        },
        by_class=dict(sorted(by_class.items(), key=lambda item: item[1].gained - item[1].lost)),
        by_score={
            name: _change(*models, _between(scores, limits), [_between(s.extra_scores, limits) for s in models])
            for name, limits in SCORES.items()
        },
    )


def _change(reference: Sightings, candidate: Sightings, objects: Array, extras: Sequence[Array]) -> Change:
    """Count over the chosen (N,) objects and, for each model, the chosen (E,) extra detections."""
    both = reference.found & candidate.found & objects
    before, after = (int(np.count_nonzero(extra)) for extra in extras)
    return Change(
        objects=int(np.count_nonzero(objects)),
        found=int(np.count_nonzero(reference.found & objects)),
        lost=int(np.count_nonzero(reference.found & ~candidate.found & objects)),
        gained=int(np.count_nonzero(~reference.found & candidate.found & objects)),
        extra=after - before,
        box_iou=_mean(candidate.box_ious[both] - reference.box_ious[both]),
        mask_iou=_mean(candidate.mask_ious[both] - reference.mask_ious[both]),
        score=_mean(candidate.scores[both] - reference.scores[both]),
    )


def _between(values: Array, limits: tuple[float, float]) -> Array:
    low, high = limits
    return (values > low) & (values <= high)


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")

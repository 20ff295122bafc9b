"""Object by object: which of the annotated objects a candidate lost or gained, and how well both hold the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

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
        self._images: dict[int, Sightings] = {}

    def add(self, image_id: int, boxes: ImageMatches, mask_ious: Array) -> None:
        """Take one image.

        Args:
            image_id: Images count in ascending order of it.
            boxes: The matches of boxes.
            mask_ious: (D, G) IoU of the masks of the same detections and objects.
        """
        is_confident = boxes.scores > CONFIDENT
        matches = boxes.matches[0, 0]  # objects of any size, at IoU 0.5
        seen = np.flatnonzero(is_confident & (matches >= 0))
        met = matches[seen]
        unseen = np.full(boxes.is_crowd.size, np.nan)
        scores, own_box_ious, own_mask_ious = unseen.copy(), unseen.copy(), unseen.copy()
        scores[met] = boxes.scores[seen]
        own_box_ious[met] = boxes.ious[seen, met]
        own_mask_ious[met] = mask_ious[seen, met]

        proper = ~boxes.is_crowd
        extra = is_confident & (matches < 0)
        self._images[image_id] = Sightings(
            categories=boxes.true_categories[proper],
            areas=boxes.true_areas[proper],
            scores=scores[proper],
            box_ious=own_box_ious[proper],
            mask_ious=own_mask_ious[proper],
            extra_categories=boxes.categories[extra],
            extra_areas=boxes.areas[extra],
            extra_scores=boxes.scores[extra],
        )

    def result(self) -> Sightings:
        """All images so far, at least one."""
        images = [self._images[image_id] for image_id in sorted(self._images)]
        joined = {}
        for column in fields(Sightings):
            joined[column.name] = np.concatenate([getattr(image, column.name) for image in images])
        return Sightings(**joined)


def pair(reference: Sightings, candidate: Sightings, names: Mapping[int, str]) -> Pairing:
    """Compare two models on the same objects.

    Args:
        reference: The model that is compared with.
        candidate: Another one on the same images and categories.
        names: Category id to name.
    """
    return Pairing(
        total=_compare_all(reference, candidate),
        by_size=_compare_sizes(reference, candidate),
        by_class=_compare_classes(reference, candidate, names),
        by_score=_compare_scores(reference, candidate),
    )


def _compare_all(reference: Sightings, candidate: Sightings) -> Change:
    every_object = np.ones(reference.categories.size, dtype=bool)
    return _change(reference, candidate, every_object, reference.extra_scores > 0, candidate.extra_scores > 0)


def _compare_sizes(reference: Sightings, candidate: Sightings) -> dict[str, Change]:
    changes = {}
    for name, limits in SIZES.items():
        if name == "all":
            continue
        changes[name] = _change(
            reference,
            candidate,
            _between(reference.areas, limits),
            _between(reference.extra_areas, limits),
            _between(candidate.extra_areas, limits),
        )
    return changes


def _compare_classes(reference: Sightings, candidate: Sightings, names: Mapping[int, str]) -> dict[str, Change]:
    """Of classes with objects, the largest losses first."""
    changes = {}
    for category, name in names.items():
        objects = reference.categories == category
        if objects.any():
            changes[name] = _change(
                reference,
                candidate,
                objects,
                reference.extra_categories == category,
                candidate.extra_categories == category,
            )
    by_gain = sorted(changes.items(), key=lambda item: item[1].gained - item[1].lost)
    return dict(by_gain)


def _compare_scores(reference: Sightings, candidate: Sightings) -> dict[str, Change]:
    """By the reference's score, or the candidate's for what it alone found."""
    scores = np.where(reference.found, reference.scores, candidate.scores)
    changes = {}
    for name, limits in SCORES.items():
        changes[name] = _change(
            reference,
            candidate,
            _between(scores, limits),
            _between(reference.extra_scores, limits),
            _between(candidate.extra_scores, limits),
        )
    return changes


def _change(
    reference: Sightings, candidate: Sightings, objects: Array, reference_extra: Array, candidate_extra: Array
) -> Change:
    """Count over the chosen (N,) objects and, for each model, the chosen (E,) extra detections."""
    was_found = reference.found & objects
    is_found = candidate.found & objects
    both = was_found & is_found
    return Change(
        objects=int(np.count_nonzero(objects)),
        found=int(np.count_nonzero(was_found)),
        lost=int(np.count_nonzero(was_found & ~is_found)),
        gained=int(np.count_nonzero(is_found & ~was_found)),
        extra=int(np.count_nonzero(candidate_extra)) - int(np.count_nonzero(reference_extra)),
        box_iou=_mean(candidate.box_ious[both] - reference.box_ious[both]),
        mask_iou=_mean(candidate.mask_ious[both] - reference.mask_ious[both]),
        score=_mean(candidate.scores[both] - reference.scores[both]),
    )


def _between(values: Array, limits: tuple[float, float]) -> Array:
    low, high = limits
    return (values > low) & (values <= high)


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")

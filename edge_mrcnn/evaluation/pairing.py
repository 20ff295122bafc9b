"""Comparison object by object: which annotated objects a candidate loses or gains, and how accurate both are on the
rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from edge_mrcnn.evaluation.agreement import CONFIDENT
from edge_mrcnn.evaluation.matching import SIZES, Array, ImageMatches

SCORES = {"50–70 %": (CONFIDENT, 0.7), "70–90 %": (0.7, 0.9), "90–100 %": (0.9, 1.0 + 1e-9)}
"""Label -> range of scores, the lower end exclusive, the upper end inclusive."""


@dataclass(frozen=True, eq=False)
class Sightings:
    """Detections of one model for the N objects of all images: an object is found if a confident box matches it at IoU
    0.5."""

    categories: Array
    """(N,) category ids, without crowds."""
    areas: Array
    """(N,) annotated area in pixels."""
    scores: Array
    """(N,) score of the detection that found the object, nan if none did, as in the next two."""
    box_ious: Array
    """(N,) IoU of its box with the object's."""
    mask_ious: Array
    """(N,) IoU of its mask with the object's."""
    extra_categories: Array
    """(E,) category ids of confident detections without an object (false positives)."""
    extra_areas: Array
    """(E,) areas of their boxes in pixels."""
    extra_scores: Array

    @property
    def found(self) -> Array:
        """(N,) bool."""
        return ~np.isnan(self.scores)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A candidate compared with the reference, on some of the objects."""

    objects: int
    """Number of annotated objects."""
    found: int
    """Number of objects that the reference finds."""
    lost: int
    """Number of objects that only the reference finds."""
    gained: int
    """Number of objects that only the candidate finds."""
    extra: int
    """False positives: the candidate's number minus the reference's."""
    box_iou: float
    """Mean change of the box's IoU with objects that both find; nan without any, as in the next two."""
    mask_iou: float
    """Mean change of the mask's IoU."""
    score: float
    """Mean change of the score."""


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """All objects, and the same by size, by class and by the reference's score."""

    total: Change
    by_size: dict[str, Change] = field(default_factory=dict)
    by_class: dict[str, Change] = field(default_factory=dict)
    """Classes with objects, the largest losses first."""
    by_score: dict[str, Change] = field(default_factory=dict)
    """By score of the reference, or of the candidate for objects that only it finds; objects that neither finds are
    left out."""


class SightingMeter:
    """Receives matched images one by one."""

    def __init__(self) -> None:
        self._images: dict[int, Sightings] = {}

    def add(self, image_id: int, boxes: ImageMatches, mask_ious: Array) -> None:
        """Take one image.

        Args:
            image_id: Images are processed in ascending order of it.
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
        """The detections of all images so far, of at least one."""
        images = [self._images[image_id] for image_id in sorted(self._images)]
        joined = {}
        for column in fields(Sightings):
            joined[column.name] = np.concatenate([getattr(image, column.name) for image in images])
        return Sightings(**joined)


def pair(reference: Sightings, candidate: Sightings, names: Mapping[int, str]) -> Pairing:
    """Compare two models on the same objects.

    Args:
        reference: The reference model.
        candidate: Another model on the same images and categories.
        names: Category id -> name.
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
    """Classes with objects, the largest losses first."""
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
    """By score of the reference, or of the candidate for objects that only it finds."""
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
    """Count the selected (N,) objects and, for each model, the selected (E,) false positives."""
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

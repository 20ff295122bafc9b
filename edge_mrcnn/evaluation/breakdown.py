"""AP lost to each error type: the AP that would be gained if all errors of that type were corrected.

Source: TIDE: A General Toolbox for Identifying Object Detection Errors, arXiv 2008.08115, section 2. Two things are
added. The gain is measured at all ten IoU thresholds, because `--max-drop` checks AP50:95. And a detection whose box
is good enough but whose mask is not has an error type of its own, "mask"; TIDE counts it as a localisation error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edge_mrcnn.evaluation.matching import THRESHOLDS, Array, ImageMatches
from edge_mrcnn.evaluation.metrics import average_precision

KINDS = ("class", "place", "mask", "both", "twice", "background", "missed")
"""Classification error; localisation error of the box; box correct but mask not; both classification and localisation
error; duplicate of a matched object; false positive on background; missed object. TIDE's Cls, Loc, (part of Loc),
Both, Dupe, Bkg, Miss, in that order."""
BACKGROUND_IOU = 0.1
"""A detection whose IoU with every object is at most this is a false positive on background."""
CLASS, PLACE, MASK, BOTH, TWICE, BACKGROUND, MISSED = range(len(KINDS))
NO_ERROR = -1


@dataclass(frozen=True, kw_only=True)
class ErrorCost:
    """One error type."""

    ap: float
    """AP50:95 that is gained without these errors, in [0, 1]."""
    ap50: float
    """AP50 that is gained without these errors, in [0, 1]; TIDE's own number."""
    count: int
    """Number of these errors at IoU 0.5."""


class _Errors(NamedTuple):
    """One image's errors at T thresholds."""

    scores: Array
    categories: Array
    hits: Array
    """(T, D) bool."""
    kinds: Array
    """(T, D) int8 index into `KINDS`; `NO_ERROR` for hits and for ignored detections."""
    repaired: Array
    """(T, D) category id of the object that the corrected detection would match, -1 for none."""
    true_categories: Array
    """(G,) category ids of the objects, without crowds."""
    missed: Array
    """(T, G) bool: no detection could be corrected to match the object."""


class ErrorMeter:
    """Receives matched images one by one."""

    def __init__(self, categories: Sequence[int]) -> None:
        """Measure these categories, by id."""
        self._categories = sorted(categories)
        self._images: dict[int, _Errors] = {}

    def add(self, image_id: int, matched: ImageMatches, box_ious: Array | None = None) -> None:
        """Take one image's matches.

        Args:
            image_id: Images are processed in ascending order of it.
            matched: The matches.
            box_ious: (D, G) IoU of the boxes, if `matched` is of masks: tells a mask error from a localisation error.
        """
        self._images[image_id] = judge(matched, box_ious)

    def costs(self) -> dict[str, ErrorCost]:
        """Error type -> its cost, over all images so far."""
        images = [self._images[image_id] for image_id in sorted(self._images)]
        if not images:
            return {}
        joined = _join(images)
        classes = {}
        for category in self._categories:
            if np.any(joined.true_categories == category):
                classes[category] = _restrict(joined, category)
        before = _mean_precision(classes, NO_ERROR)
        costs = {}
        for kind, name in enumerate(KINDS):
            gain = np.maximum(_mean_precision(classes, kind) - before, 0.0)
            at_half = joined.missed[0] if kind == MISSED else joined.kinds[0] == kind
            costs[name] = ErrorCost(
                ap=float(gain.mean()),
                ap50=float(gain[0]),
                count=int(at_half.sum()),
            )
        return costs


def judge(matched: ImageMatches, box_ious: Array | None = None) -> _Errors:
    """Find the error type of each detection of an image; see `ErrorMeter.add`."""
    any_size = 0
    proper = ~matched.is_crowd
    true_categories = matched.true_categories[proper]
    used = _used(matched.matches[any_size], proper)
    kinds, target = _classify_errors(matched, proper, used, box_ious)
    is_fine = ~matched.misses[any_size]
    kinds[is_fine] = NO_ERROR
    target[is_fine] = -1
    repaired, missed = _repair(target, used, true_categories)
    return _Errors(
        scores=matched.scores,
        categories=matched.categories,
        hits=matched.hits[any_size],
        kinds=kinds,
        repaired=repaired,
        true_categories=true_categories,
        missed=missed,
    )


def _classify_errors(matched: ImageMatches, proper: Array, used: Array, box_ious: Array | None) -> tuple[Array, Array]:
    """The error type of each detection, by TIDE's rules in TIDE's order.

    Args:
        matched: The matches.
        proper: (G,) bool: objects that are not crowds, G' of them.
        used: (T, G') bool: objects that are matched.
        box_ious: (D, G) IoU of the boxes, or None.

    Returns:
        (T, D) int8 types; (T, D) the object that each would match if it were corrected, -1 for none.
    """
    ious = matched.ious[:, proper]
    shape = (len(THRESHOLDS), len(ious))
    if not ious.size:
        return np.full(shape, BACKGROUND, dtype=np.int8), np.full(shape, -1)
    limits = THRESHOLDS[:, None]
    same_class = matched.categories[:, None] == matched.true_categories[proper]
    own_ious = np.where(same_class, ious, 0.0)
    other_ious = np.where(same_class, 0.0, ious)
    used_ious = np.where(used[:, None], own_ious, 0.0)
    nearest = own_ious.argmax(axis=1)
    overlap = own_ious.max(axis=1)

    is_place = (overlap >= BACKGROUND_IOU) & (overlap <= limits)
    is_class = other_ious.max(axis=1) >= limits
    is_twice = used_ious.max(axis=2) >= limits
    is_background = np.broadcast_to(ious.max(axis=1) <= BACKGROUND_IOU, shape)
    questions = [is_place, is_class, is_twice, is_background]  # the first true one decides
    kinds = np.select(questions, [PLACE, CLASS, TWICE, BACKGROUND], BOTH).astype(np.int8)
    if box_ious is not None:
        box_overlap = box_ious[:, proper][np.arange(len(nearest)), nearest]
        kinds[(kinds == PLACE) & (box_overlap >= limits)] = MASK

    target = np.where(kinds == CLASS, other_ious.argmax(axis=1), nearest)
    can_be_corrected = np.isin(kinds, (CLASS, PLACE, MASK))
    return kinds, np.where(can_be_corrected, target, -1)


def _used(matches: Array, proper: Array) -> Array:
    """(T, G') bool: which objects, without crowds, are matched."""
    used = np.zeros((matches.shape[0], proper.size), dtype=bool)
    threshold, detection = np.nonzero(matches >= 0)
    used[threshold, matches[threshold, detection]] = True
    return used[:, proper]


def _repair(target: Array, used: Array, true_categories: Array) -> tuple[Array, Array]:
    """Give each unmatched object to the best detection that targets it; objects without one are missed.

    Returns:
        (T, D) category id of the object gained, -1 for none; (T, G) bool.
    """
    repaired = np.full(target.shape, -1, dtype=np.int32)
    missed = ~used
    for threshold, wanted in enumerate(target):
        # Detections are sorted by score, so the first one of each object is its best.
        objects, best = np.unique(wanted, return_index=True)
        for index, detection in zip(objects.tolist(), best.tolist(), strict=True):
            if index >= 0 and missed[threshold, index]:
                missed[threshold, index] = False
                repaired[threshold, detection] = true_categories[index]
    return repaired, missed


def _join(images: Sequence[_Errors]) -> _Errors:
    """The detections and the objects of all images, one after the other."""
    columns = zip(*images, strict=True)
    joined = [np.concatenate(column, axis=-1) for column in columns]
    return _Errors(*joined)


def _restrict(errors: _Errors, category: int) -> _Errors:
    """What affects the AP of one class: its detections, those that would be of it if corrected, and its objects."""
    would_be_own = (errors.repaired == category).any(axis=0)
    rows = (errors.categories == category) | would_be_own
    objects = errors.true_categories == category
    return _Errors(
        scores=errors.scores[rows],
        categories=errors.categories[rows],
        hits=errors.hits[:, rows],
        kinds=errors.kinds[:, rows],
        repaired=errors.repaired[:, rows],
        true_categories=errors.true_categories[objects],
        missed=errors.missed[:, objects],
    )


def _mean_precision(classes: Mapping[int, _Errors], kind: int) -> Array:
    """(T,) AP with one error type corrected, averaged over the classes that can be measured; 0 if none can."""
    total = np.zeros(len(THRESHOLDS))
    measured = np.zeros(len(THRESHOLDS))
    for category, errors in classes.items():
        precision = _class_precision(errors, category, kind)
        total += np.nan_to_num(precision)
        measured += ~np.isnan(precision)
    return np.asarray(total / np.maximum(measured, 1))


def _class_precision(errors: _Errors, category: int, kind: int) -> Array:
    """(T,) AP of one class with one error type corrected; nan if neither objects nor detections are left."""
    own = errors.categories == category
    is_repaired = errors.kinds == kind
    hits = (errors.hits & own) | (is_repaired & (errors.repaired == category))
    misses = (errors.kinds != NO_ERROR) & own & ~is_repaired
    objects = np.full(len(THRESHOLDS), errors.true_categories.size)
    if kind == MISSED:
        objects -= errors.missed.sum(axis=1)
    rows = np.flatnonzero((hits | misses).any(axis=0))
    best_first = rows[np.argsort(-errors.scores[rows], kind="stable")]
    precision = average_precision(hits[:, best_first], misses[:, best_first], objects)
    if not rows.size:
        return precision
    return np.nan_to_num(precision)  # detections without any object are all false positives

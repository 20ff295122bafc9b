"""Matching and comparison of two models' outputs for the same images."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.base import FakeRuntime, RawOutputs
from runtimes.parity import Parity, Tolerance, compare_outputs, match

CARD = FakeRuntime().card.updated(max_detections=6, score_threshold=0.1)


def output(count: int = 4, seed: int = 0) -> RawOutputs:
    """Detections that do not overlap, best first."""
    rng = np.random.default_rng(seed)
    low = np.stack([20 * np.arange(count), rng.uniform(0, 20, count)], 1)
    boxes = np.concatenate([low, low + 15], 1).astype(np.float32)
    scores = np.linspace(0.9, 0.3, count, dtype=np.float32)
    return RawOutputs(boxes, scores, np.arange(count) % 2, rng.random((count, 14, 14), dtype=np.float32))


EXACT = Tolerance()


def compare(expected: RawOutputs, found: RawOutputs, tolerance: Tolerance = EXACT, **options: float) -> Parity:
    return compare_outputs([expected], [found], CARD, tolerance, **options)


def rows(raw: RawOutputs, chosen: object) -> RawOutputs:
    return RawOutputs(*(values[chosen] for values in raw))


def test_equal_outputs_pass() -> None:
    parity = compare(output(), output())
    assert (parity.detections, parity.matched, parity.surplus) == (4, 4, 0)
    assert (parity.box_px, parity.score, parity.mask) == (0, 0, 0)
    assert parity.passes(EXACT)


def test_order_does_not_matter() -> None:
    assert compare(output(), rows(output(), [2, 0, 3, 1])).passes(EXACT)


@pytest.mark.parametrize(("field", "change"), [("boxes", 0.2), ("scores", 0.01), ("masks", 0.01), ("labels", 1)])
def test_any_difference_fails(field: str, change: float) -> None:
    values = getattr(output(), field)
    wrong = output()._replace(**{field: values + np.asarray(change, values.dtype)})
    assert not compare(output(), wrong).passes(EXACT)


@pytest.mark.parametrize("field", ["boxes", "scores", "masks"])
def test_not_a_number_fails(field: str) -> None:
    values = getattr(output(), field).copy()
    values[1] = np.nan
    assert not compare(output(), output()._replace(**{field: values})).passes(EXACT)


def test_a_missing_detection_and_one_too_many_fail() -> None:
    assert not compare(output(4), rows(output(4), slice(1, None))).passes(EXACT)
    more = compare(rows(output(4), slice(3)), output(4))
    assert (more.matched, more.surplus) == (3, 1)
    assert not more.passes(EXACT)
    assert more.passes(Tolerance(surplus=0.4))
    assert "and 1 extra" in str(more)


def test_detections_at_the_threshold_do_not_count() -> None:
    weak = output(3)._replace(scores=np.array([0.9, 0.5, 0.10005], np.float32))
    assert compare(weak, rows(weak, slice(2))).passes(EXACT)
    assert compare(rows(weak, slice(2)), weak).passes(EXACT)


def test_where_all_rows_are_full_the_last_score_is_a_threshold() -> None:
    full = output(6)
    parity = compare(full, rows(full, slice(5)))
    assert (parity.detections, parity.passes(EXACT)) == (5, True)


def test_only_what_is_above_the_lowest_score_counts() -> None:
    assert compare(output(4), output(4), min_score=0.6).detections == 2


def test_unused_rows_do_not_count() -> None:
    padded = RawOutputs(*(np.concatenate([values, np.zeros_like(values[:2])]) for values in output()))
    assert compare(output(), padded).passes(EXACT)


def test_masks_that_were_not_kept_are_not_compared() -> None:
    shortened = output()._replace(masks=output().masks[:2])
    wrong = output().masks.copy()
    wrong[3] = 1 - wrong[3]
    assert compare(shortened, output()._replace(masks=wrong)).passes(EXACT)
    wrong[1] = 1 - wrong[1]
    assert not compare(shortened, output()._replace(masks=wrong)).passes(EXACT)


def test_median_tolerates_an_outlier_and_the_maximum_does_not() -> None:
    moved = output().boxes.copy()
    moved[0] += 2
    found = output()._replace(boxes=moved)
    assert compare(output(), found, Tolerance(quantile=0.5)).passes(EXACT)
    assert not compare(output(), found).passes(EXACT)


def test_nothing_expected_and_nothing_found_is_equal() -> None:
    nothing = rows(output(), slice(0))
    assert compare(nothing, nothing).passes(EXACT)
    assert not compare(nothing, output()).passes(Tolerance(surplus=0.5))


def test_a_detection_is_matched_once() -> None:
    twice = RawOutputs(*(np.repeat(values, 2, 0) for values in rows(output(), slice(1))))
    assert match(rows(output(), slice(1)), twice) == [(0, 0)]


def test_both_outputs_may_have_fewer_masks_than_boxes() -> None:
    few = output()._replace(masks=output().masks[:2])
    assert compare(few, few).passes(EXACT) and compare(few, few).detections == 4


@pytest.mark.parametrize(("count", "gone", "passes"), [(28, 1, True), (28, 2, False), (9, 1, False), (300, 3, True)])
def test_one_of_ten_or_more_may_be_missing_since_rounding_orders_equal_scores(count, gone, passes) -> None:
    card = CARD.updated(max_detections=1000)
    parity = compare_outputs([output(count)], [rows(output(count), slice(gone, None))], card, EXACT)
    assert (parity.detections, parity.matched) == (count, count - gone)
    assert parity.passes(EXACT) == passes


def test_tolerance_reads_as_a_sentence() -> None:
    words = "99% matched, boxes within 0.05 px, scores within 0.0001, masks within 0.001"
    assert str(Tolerance()) == words
    assert str(Tolerance(box_px=np.inf, score=np.inf, mask=np.inf, matched=0.8)) == "80% matched"

"""Polygons of masks: against the pixels that `paste_mask` makes of the same probabilities."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtimes.contours import find_largest, measure_masks, trace_masks
from runtimes.postprocess import fill_dense, paste_mask

SIZE_HW = (400, 500)
FRAME = np.array([[40, 60, 320, 340]], np.float32)


def fill(rings, size_hw=SIZE_HW, *, finer=8):
    """(H, W) share of each pixel inside the rings."""
    points = [np.round((ring * finer - 0.5) * 16).astype(np.int32) for ring in rings]
    fine = cv2.fillPoly(np.zeros([finer * side for side in size_hw], np.uint8), points, 1, shift=4)
    return fine.reshape(size_hw[0], finer, size_hw[1], finer).mean(axis=(1, 3))


def blobs(rng, count):
    """(count, 28, 28) probabilities with ragged edges, holes and islands."""
    noise = [cv2.GaussianBlur(rng.random((28, 28), np.float32), (0, 0), 2.0) for _ in range(count)]
    return np.stack([np.clip(0.5 + 4 * (one - np.median(one)), 0, 1) for one in noise])


def signed_area(ring):
    return cv2.contourArea(ring, oriented=True)


def test_inside_of_the_rings_is_the_pasted_mask():
    probs = blobs(np.random.default_rng(0), 20)
    frames = np.repeat(FRAME, 20, axis=0)
    for mask, frame, rings in zip(probs, frames, trace_masks(probs, frames, SIZE_HW), strict=True):
        pasted = fill_dense([paste_mask(mask, frame, SIZE_HW)], SIZE_HW)[0]
        traced = fill(rings) > 0.5
        assert (pasted & traced).sum() / (pasted | traced).sum() > 0.98


def test_disc_is_as_large_as_it_was():
    axis = (np.arange(28) + 0.5) / 28 - 0.5
    disc = np.clip(0.5 + 8 * (0.4 - np.hypot(axis, axis[:, None])), 0, 1).astype(np.float32)
    (rings,) = trace_masks(disc[None], FRAME, SIZE_HW)
    assert len(rings) == 1
    assert signed_area(rings[0]) == pytest.approx(np.pi * (0.4 * 280) ** 2, rel=0.01)
    np.testing.assert_allclose(np.hypot(*(rings[0] - (180, 200)).T), 0.4 * 280, atol=1)


def test_hole_and_island_are_rings_of_their_own():
    mask = np.zeros((1, 28, 28), np.float32)
    mask[0, 4:24, 4:24], mask[0, 8:20, 8:20], mask[0, 12:16, 12:16] = 1, 0, 1
    (rings,) = trace_masks(mask, FRAME, SIZE_HW)
    signs = [np.sign(signed_area(ring)) for ring in sorted(rings, key=cv2.contourArea)]
    assert signs == [1, -1, 1]
    assert find_largest(rings) is max(rings, key=cv2.contourArea)


def test_corners_that_touch_stay_apart():
    mask = np.zeros((1, 28, 28), np.float32)
    mask[0, 4:10, 4:10] = mask[0, 10:16, 10:16] = 1
    assert len(trace_masks(mask, FRAME, SIZE_HW)[0]) == 2


@pytest.mark.parametrize("side", [1, 2, 3, 7, 14, 30, 31])
def test_cells_of_masks_of_any_size_lie_on_their_side_of_the_rings(side):
    masks = np.random.default_rng(side).integers(0, 2, (5, side, side)).astype(np.float32)
    centres = ((np.arange(side) + 0.5) * 10).astype(int)
    frames = np.repeat(np.array([[0, 0, 10 * side, 10 * side]], np.float32), 5, axis=0)
    for mask, rings in zip(masks, trace_masks(masks, frames, SIZE_HW), strict=True):
        np.testing.assert_array_equal(fill(rings, finer=2)[np.ix_(centres, centres)] > 0.5, mask > 0.5)


def test_full_mask_is_its_frame():
    (rings,) = trace_masks(np.ones((1, 28, 28), np.float32), FRAME, SIZE_HW)
    np.testing.assert_allclose([rings[0].min(axis=0), rings[0].max(axis=0)], FRAME.reshape(2, 2), atol=1e-3)


@pytest.mark.parametrize("frame", [[5, 5, 5, 5], [5, 5, 5, 9], [9, 9, 3, 3]])
def test_frame_without_area_has_no_ring(frame):
    assert trace_masks(np.ones((1, 28, 28), np.float32), np.array([frame], np.float32), SIZE_HW) == [[]]


def test_nan_counts_as_outside():
    mask = np.full((2, 28, 28), np.nan, np.float32)
    mask[1, 10:20, 10:20] = 1
    none, one = trace_masks(mask, np.repeat(FRAME, 2, axis=0), SIZE_HW)
    assert none == [] and len(one) == 1 and np.isfinite(one[0]).all()


def test_contours_do_not_leave_the_image():
    (rings,) = trace_masks(np.ones((1, 28, 28), np.float32), np.array([[-9, 300, 520, 420]], np.float32), SIZE_HW)
    np.testing.assert_array_equal([rings[0].min(axis=0), rings[0].max(axis=0)], [[0, 300], [500, 400]])


def test_nothing_found_has_no_contours():
    assert trace_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), SIZE_HW) == []
    assert find_largest([]).shape == (0, 2)


def test_areas_and_centroids_are_those_of_the_pixels():
    probs = blobs(np.random.default_rng(1), 20)
    frames = np.random.default_rng(2).uniform(0, 150, (20, 2)).astype(np.float32)
    frames = np.concatenate([frames, frames + 240], axis=1)
    dense = fill_dense([paste_mask(*pair, SIZE_HW) for pair in zip(probs, frames, strict=True)], SIZE_HW)
    areas, centroids = measure_masks(probs, frames, SIZE_HW)
    np.testing.assert_allclose(areas, dense.sum(axis=(1, 2)), rtol=0.01)
    for plane, centroid in zip(dense, centroids, strict=True):
        rows, columns = np.nonzero(plane)
        np.testing.assert_allclose(centroid, [columns.mean() + 0.5, rows.mean() + 0.5], atol=0.3)


def test_area_of_a_ring_with_a_hole_and_an_island():
    mask = np.zeros((1, 28, 28), np.float32)
    mask[0, 4:24, 4:24], mask[0, 8:20, 8:20], mask[0, 12:16, 12:16] = 1, 0, 1
    areas, centroids = measure_masks(mask, FRAME, SIZE_HW)
    assert areas[0] == pytest.approx((20**2 - 12**2 + 4**2) * 10 * 10, rel=0.01)
    np.testing.assert_allclose(centroids[0], [180, 200], atol=1e-3)


def test_area_far_from_the_origin_keeps_its_digits():
    mask = np.ones((1, 28, 28), np.float32)
    far = np.array([[30000, 30000, 30008, 30008]], np.float32)
    areas, centroids = measure_masks(mask, far, (40000, 40000))
    assert areas[0] == pytest.approx(64, rel=0.01)
    np.testing.assert_allclose(centroids[0], [30004, 30004], atol=0.01)


def test_mask_without_a_ring_has_no_area():
    masks, frames = np.zeros((2, 28, 28), np.float32), np.repeat(FRAME, 2, axis=0)
    areas, centroids = measure_masks(masks, frames, SIZE_HW)
    assert areas.tolist() == [0, 0] and np.isnan(centroids).all()
    none = measure_masks(masks[:0], frames[:0], SIZE_HW)
    assert none[0].shape == (0,) and none[1].shape == (0, 2)


def test_areas_are_those_of_the_rings():
    probs = blobs(np.random.default_rng(3), 6)
    corners = np.random.default_rng(4).uniform(-40, 300, (6, 2))  # some leave the image
    frames = np.concatenate([corners, corners + 200], axis=1).astype(np.float32)
    rings = trace_masks(probs, frames, SIZE_HW)
    expected = [sum(map(signed_area, own)) for own in rings]
    np.testing.assert_allclose(measure_masks(probs, frames, SIZE_HW)[0], expected, rtol=1e-4)

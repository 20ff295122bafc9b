"""Pasted masks: compared with OpenCV, torchvision and the training targets."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtimes.postprocess import fill_dense, find_contours, paste_mask


def test_pixels_are_bilinear_samples_of_the_mask():
    probs = np.random.default_rng(3).random((28, 28), np.float32)
    frame = np.array([10.3, 20.7, 95.1, 110.9], np.float32)
    places = [(np.arange(120) + 0.5 - start) / (end - start) * 28 - 0.5 for start, end in (frame[::2], frame[1::2])]
    x, y = np.meshgrid(*places)
    framed = np.pad(probs, 1)
    values = cv2.remap(framed, (x + 1).astype(np.float32), (y + 1).astype(np.float32), cv2.INTER_LINEAR, borderValue=0)
    pasted = fill_dense([paste_mask(probs, frame, (120, 120))], (120, 120))[0]
    clear = np.abs(values - 0.5) > 0.03  # OpenCV samples in steps of 1/32 of a cell
    np.testing.assert_array_equal(pasted[clear], values[clear] >= 0.5)
    assert clear.mean() > 0.9


def test_nan_counts_as_outside_the_mask():
    probs = np.full((4, 4), np.nan, np.float32)
    probs[:, 2:] = 1
    region = paste_mask(probs, np.array([0, 0, 8, 8], np.float32), (8, 8))
    assert not region.mask[:, :2].any() and region.mask[:, 5:7].all()


def test_full_mask_fills_exactly_the_pixels_whose_centres_are_inside():
    region = paste_mask(np.ones((28, 28), np.float32), np.array([2.4, 3.6, 7.4, 9.6], np.float32), (20, 20))
    assert (region.x, region.y, region.mask.shape) == (2, 4, (6, 5))
    assert region.mask.all()


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [5.1, 5.1, 5.2, 5.2], [0, 0, 0, 9], [30, 30, 40, 40], [9, 9, 3, 3]])
def test_box_without_a_pixel_gives_an_empty_region(box):
    region = paste_mask(np.ones((14, 14), np.float32), np.array(box, np.float32), (20, 20))
    assert not region.mask.any()
    assert not find_contours(region)


def test_paste_agrees_with_torchvision_up_to_its_rounding():
    torch = pytest.importorskip("torch")
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    rng = np.random.default_rng(0)
    probs = np.stack([soft_blob(rng) for _ in range(20)])
    corner = rng.uniform(20, 200, (20, 2))
    boxes = np.hstack([corner, corner + rng.uniform(150, 400, (20, 2))]).astype(np.float32)
    theirs = paste_masks_in_image(torch.from_numpy(probs)[:, None], torch.from_numpy(boxes), (600, 600))[:, 0].numpy()
    ours = fill_dense([paste_mask(p, b, (600, 600)) for p, b in zip(probs, boxes, strict=True)], (600, 600))
    assert np.mean([iou(a >= 0.5, b) for a, b in zip(theirs, ours, strict=True)]) > 0.985
    whole = [paste_mask(p, exact_frame(b), (600, 600)) for p, b in zip(probs, boxes, strict=True)]
    assert min(iou(a >= 0.5, b) for a, b in zip(theirs, fill_dense(whole, (600, 600)), strict=True)) > 0.99


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0])
def test_offset_of_half_an_input_pixel_undoes_the_training_targets(scale):
    """The target of torchvision's mask loss, pasted back, is the object; without the offset it lies beside it."""
    torch = pytest.importorskip("torch")
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    rng = np.random.default_rng(1)
    with_offset, without = [], []
    for _ in range(20):
        truth = polygon(rng, 800)
        small = cv2.resize(truth, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST_EXACT)
        x, y, w, h = cv2.boundingRect(truth)
        box = np.array([x, y, x + w, y + h], np.float32)
        first = torch.zeros(1, dtype=torch.int64)
        target = project_masks_on_boxes(torch.from_numpy(small)[None], torch.from_numpy(box * scale)[None], first, 28)
        for offset, ious in ((0.5, with_offset), (0.0, without)):
            frame = box + np.float32(offset / scale)
            pasted = fill_dense([paste_mask(target[0].numpy(), frame, (800, 800))], (800, 800))[0]
            ious.append(iou(pasted, truth > 0))
    assert np.mean(with_offset) > np.mean(without)
    assert np.mean(with_offset) > 0.96


def exact_frame(box: np.ndarray) -> np.ndarray:
    """The frame that torchvision's rounding gives to a 28 x 28 mask in this box."""
    expand = 30 / 28
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * expand
    low, high = np.trunc(centre - half), np.trunc(centre + half) + 1
    cell = (high - low) / 30
    return np.concatenate([low + cell, high - cell]).astype(np.float32)


def soft_blob(rng: np.random.Generator) -> np.ndarray:
    """(28, 28) probabilities of one round object with a soft edge."""
    rows, columns = np.mgrid[:28, :28].astype(np.float32)
    centre, radius = rng.uniform(11, 17, 2), rng.uniform(7, 11)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    return (1 / (1 + np.exp(distance - radius))).astype(np.float32)


def polygon(rng: np.random.Generator, side: int) -> np.ndarray:
    angle = np.sort(rng.uniform(0, 2 * np.pi, 12))
    radius = rng.uniform(0.1, 0.3, 12) * side
    points = side / 2 + np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return cv2.fillPoly(np.zeros((side, side), np.uint8), [points.astype(np.int32)], 1)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))

"""Objects are made unrecognisable: all of them, irreversibly, and during gaps of the detector."""

import numpy as np
import pytest

from runtimes import Detections
from runtimes.anonymize import Anonymizer, AnonymizerConfig, cover_areas, make_mosaic, widen_mask
from runtimes.postprocess import paste_mask

SIZE_HW = (240, 320)
PERSON = AnonymizerConfig(labels=frozenset({0}))


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


def disc(side=28):
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    return np.clip(4 * (0.85 - np.hypot(axis, axis[:, None])) + 0.5, 0, 1)


def found(*boxes, labels=None, scores=None, probs=None):
    count = len(boxes)
    masks = np.zeros((count, 28, 28), np.float32)
    masks[:] = disc() if probs is None else probs
    return Detections(
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4), scores=np.array(scores or [0.9] * count, np.float32),
        labels=np.array(labels or [0] * count, np.int64), image_size_hw=SIZE_HW, names=("person", "dog"),
        mask_probs=masks, category_ids=(1, 2),
    )  # fmt: skip


def cover(anonymizer, found, time_s=0.0):
    """A picture of noise in which objects are covered."""
    return cover_areas(noise(), anonymizer.follow(found, time_s))


def covered(before, after):
    """(H, W) bool: pixels that were changed."""
    return (before != after).any(axis=-1)


@pytest.mark.parametrize("method", ["mosaic", "fill"])
@pytest.mark.parametrize("box", [[100, 60, 200, 180], [-10, -10, 40, 60], [290, 200, 320, 240], [50, 50, 56, 62]])
def test_nothing_of_an_object_is_left(method, box):
    before = noise()
    image = cover(Anonymizer(AnonymizerConfig(labels=frozenset({0}), method=method)), found(box))
    x, y, mask = paste_mask(disc(), np.array(box, np.float32), SIZE_HW)
    old, new = (one[y : y + mask.shape[0], x : x + mask.shape[1]][mask].astype(float) for one in (before, image))
    assert mask.any() and len(np.unique(new, axis=0)) <= 36
    assert new.std() == 0 or abs(np.corrcoef(old.ravel(), new.ravel())[0, 1]) < 0.3


def test_what_is_not_the_object_stays():
    changed = covered(noise(), cover(Anonymizer(PERSON), found([100, 60, 200, 180])))
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 60 - 14 and rows.max() < 180 + 14 and columns.min() >= 88 and columns.max() < 212
    assert not changed[60:66, 100:106].any(), "a corner of the box is no part of a disc"


@pytest.mark.parametrize("kind", ["another class", "below the score"])
def test_what_is_not_wanted_stays(kind):
    other = found([100, 60, 200, 180], **({"labels": [1]} if kind == "another class" else {"scores": [0.05]}))
    assert not covered(noise(), cover(Anonymizer(PERSON), other, 0.0)).any()


def test_unconfident_objects_are_covered():
    assert covered(noise(), cover(Anonymizer(PERSON), found([100, 60, 200, 180], scores=[0.11]), 0.0)).any()


def test_object_with_an_empty_mask_is_covered_by_its_box():
    empty = found([100, 60, 200, 180], probs=np.zeros((28, 28), np.float32))
    assert covered(noise(), cover(Anonymizer(PERSON), empty, 0.0))[60:180, 100:200].mean() > 0.99


@pytest.mark.parametrize("fps", [1, 25])
def test_missed_frames_do_not_uncover_a_person(fps):
    anonymizer = Anonymizer(PERSON)
    for index in range(5):  # walks to the right by 4 pixels a frame
        cover(anonymizer, found([60 + 4 * index, 60, 120 + 4 * index, 180]), index / fps)
    for index in range(5, 8):
        changed = covered(noise(), cover(anonymizer, found(), index / fps))
        x, y, mask = paste_mask(disc(), np.array([60 + 4 * index, 60, 120 + 4 * index, 180], np.float32), SIZE_HW)
        assert changed[y : y + mask.shape[0], x : x + mask.shape[1]][mask].mean() > 0.99, "where it walks on"
        x, y, mask = paste_mask(disc(), np.array([76, 60, 136, 180], np.float32), SIZE_HW)
        assert changed[y : y + mask.shape[0], x : x + mask.shape[1]][mask].mean() > 0.99, "where it may have stopped"


def test_object_that_is_gone_is_uncovered():
    anonymizer = Anonymizer(PERSON)
    for index in range(5):
        cover(anonymizer, found([60, 60, 120, 180]), index / 25)
    held = [covered(noise(), cover(anonymizer, found(), index / 25)).any() for index in range(5, 35)]
    assert held[:23] == [True] * 23 and not any(held[26:]), "a second after it was seen at 0.16 s"


def test_nothing_is_held_if_so_wished():
    anonymizer = Anonymizer(AnonymizerConfig(labels=frozenset({0}), hold_s=0))
    cover(anonymizer, found([60, 60, 120, 180]), 0.0)
    assert not covered(noise(), cover(anonymizer, found(), 0.04)).any()


def test_two_objects_that_meet_are_both_held():
    anonymizer = Anonymizer(PERSON)
    for index in range(5):
        cover(anonymizer, found([60, 60, 120, 180], [200, 60, 260, 180]), index / 25)
    changed = covered(noise(), cover(anonymizer, found([60, 60, 120, 180]), 0.2))
    assert changed[120, 90] and changed[120, 230]


def test_mosaic_has_few_cells_however_large_or_small_the_object():
    for height, width in ((3, 3), (20, 8), (400, 100), (1080, 1920)):
        image = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
        mosaic = make_mosaic(image)
        assert mosaic.shape == image.shape
        assert len(np.unique(mosaic.reshape(-1, 3), axis=0)) <= min(36, max(1, height * width / 64) * 2)


def test_wide_mask_contains_the_mask():
    probs = np.zeros((14, 14), np.float32)
    probs[5:9, 5:9] = 0.3
    cells, margin = widen_mask(probs)
    assert cells.shape == (18, 18) and margin == pytest.approx(2 / 14)
    assert (cells[7:11, 7:11] == 255).all() and cells[5:13, 9].all() and not cells[0].any()

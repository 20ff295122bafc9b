from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtimes import FakeRuntime
from runtimes.base import RawOutputs
from runtimes.counting import Line, PlaceCounter, Zone
from runtimes.draw import PALETTE, Style, draw_chips, draw_detections, draw_panel
from runtimes.draw_places import draw_counts


def disc_scene(size=(240, 320)):
    image = np.full((*size, 3), 90, np.uint8)
    return image, FakeRuntime().infer(image)


def test_only_the_neighbourhood_of_an_object_changes():
    image, found = disc_scene()
    picture = draw_detections(image.copy(), found)
    changed = (picture != image).any(axis=2)
    assert changed[found.masks.data[0]].all()
    x0, y0, x1, y1 = found.boxes_xyxy[0].astype(int)
    assert not changed[y1 + 5 :].any() and not changed[:, : x0 - 5].any() and not changed[:20].any()


def test_fill_lets_the_picture_through():
    image, found = disc_scene()
    image[100:140, 140:180] = 200
    picture = draw_detections(image.copy(), found)
    assert picture[120, 160].sum() > picture[160, 160].sum()


def test_picture_without_objects_stays_as_it_is():
    image, found = disc_scene()
    np.testing.assert_array_equal(draw_detections(image.copy(), found[:0]), image)


@pytest.mark.parametrize("size", [(1, 1), (9, 13), (40, 2000), (1080, 1920)])
def test_any_size_of_image_can_be_drawn_on(size):
    image, found = disc_scene(size)
    draw_panel(draw_detections(image, found), ["30 FPS", "12 ms"])


@pytest.mark.parametrize("box", [[0, 0, 96, 64], [90, 60, 96, 64], [95, 63, 95, 63]])
def test_labels_at_the_edge_stay_inside(box):
    raw = RawOutputs(np.array([box], np.float32), np.array([0.5]), np.array([1]), np.ones((1, 14, 14), np.float32))
    image = np.zeros((64, 96, 3), np.uint8)
    found = FakeRuntime(respond=lambda x: raw).infer(image)
    assert draw_detections(image, found).any()


def test_objects_at_one_place_each_get_a_label():
    image, found = disc_scene()
    rows = []
    for count in (1, 2):
        chips = draw_chips_of(image, found[[0] * count])
        rows.append(int(chips.any(axis=1).sum()))
    assert rows[1] == 2 * rows[0]


def draw_chips_of(image, found):
    picture = image.copy()
    draw_chips(picture, found, PALETTE[: len(found)], Style.for_size(*image.shape[:2]))
    return (picture != image).any(axis=2)


def test_objects_can_be_told_apart_by_colour():
    image, found = disc_scene()
    twice = found[[0, 0]]
    by_class = draw_detections(image.copy(), twice, by_instance=False)
    by_instance = draw_detections(image.copy(), twice, by_instance=True)
    assert (by_class != by_instance).any()


@pytest.mark.parametrize("by_instance", [False, True])
def test_image_as_opencv_has_it_gets_the_same_colours(by_instance):
    image, found = disc_scene()
    image[..., 0] += 50
    objects = found[[0] * len(PALETTE)]
    expected = draw_detections(image.copy(), objects, by_instance=by_instance)
    turned = draw_detections(image[..., ::-1].copy(), objects, by_instance=by_instance, order="bgr")
    np.testing.assert_array_equal(turned[..., ::-1], expected)
    np.testing.assert_array_equal(found.plot(image[..., ::-1], order="bgr")[..., ::-1], found.plot(image))


def test_palette_is_distinct():
    colors = np.array(PALETTE, int)
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 1000 * np.eye(len(colors), dtype=int)
    assert distance.min() > 80


def test_numbers_of_a_tracker_and_counts_are_drawn():
    image, found = disc_scene()
    numbered = replace(found, ids=np.array([7]))
    assert (draw_detections(image.copy(), numbered) != draw_detections(image.copy(), found)).any()
    counter = PlaceCounter([Line("gate", (0, 0.5), (1, 0.5))], [Zone("yard", ((0.1, 0.1), (0.4, 0.1), (0.2, 0.4)))])
    changed = (draw_counts(image.copy(), counter) != image).any(axis=2)
    assert changed[120].all() and changed[24, 40:120].all() and not changed[200:].any()

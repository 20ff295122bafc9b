"""Drawings for the verification of exported files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_mrcnn.export.pictures import CLEAR, TRIALS, choose_pictures, draw_pictures
from runtimes import FakeRuntime, RawOutputs


def output(*scores: float) -> RawOutputs:
    count = len(scores)
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (count, 1))
    return RawOutputs(boxes, np.array(scores, np.float32), np.zeros(count, int), np.zeros((count, 14, 14), np.float32))


def count_figures(x: np.ndarray) -> RawOutputs:
    """As many detections as the picture has colours, without the background's."""
    colours = len(np.unique(x.reshape(-1, 3), axis=0)) - 1
    return output(*np.linspace(0.9, 0.2, colours)) if colours else output()


@pytest.mark.parametrize("size", [(320, 320), (64, 128), (75, 33)])
def test_drawings_are_inputs_that_compress_well(size: tuple[int, int]) -> None:
    pictures = list(draw_pictures(size))
    assert len(pictures) == TRIALS
    for picture in pictures:
        assert picture.shape == (1, *size, 3) and picture.dtype == np.uint8
        assert len(cv2.imencode(".png", picture[0], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]) < 10_000


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = (np.stack(list(draw_pictures((64, 64), seed))) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_an_empty_a_sparse_and_a_crowded_picture_are_chosen() -> None:
    (_, empty, none), (_, _, few), (_, _, many) = choose_pictures(FakeRuntime(respond=count_figures))
    assert np.ptp(empty) == 0 and len(none.scores) == 0
    assert few.scores.max() >= CLEAR
    assert 0 < len(few.scores) < len(many.scores)


def test_a_clear_detection_is_preferred_to_a_single_weak_one() -> None:
    def respond(x: np.ndarray) -> RawOutputs:
        found = len(count_figures(x).scores)
        return output(0.2) if found < 6 else output(*[0.8] * found)

    sparse = choose_pictures(FakeRuntime(respond=respond))[1][2]
    assert len(sparse.scores) >= 6


def test_a_model_that_finds_nothing_gets_pictures_all_the_same() -> None:
    chosen = choose_pictures(FakeRuntime(respond=lambda x: output()))
    assert [name for name, _, _ in chosen] == ["empty", "sparse", "crowded"]
    assert all(len(found.scores) == 0 for _, _, found in chosen)


def test_heavy_model_is_verified_on_fewer_drawings() -> None:
    asked: list[np.ndarray] = []

    def respond(x: np.ndarray) -> RawOutputs:
        asked.append(x)
        return output()

    assert len(choose_pictures(FakeRuntime(respond=respond), trials=4)) == 3
    assert len(asked) == 4 + 1  # and the empty one

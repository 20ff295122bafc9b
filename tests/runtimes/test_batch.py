"""Several images at once: every runtime takes any number of them, independent of the graph's batch size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from runtimes.base import BatchRuntime, FakeRuntime, RawOutputs, output_names, split_rows
from runtimes.errors import ImageError
from runtimes.model_card import ModelCard


def pictures(count: int) -> list[np.ndarray]:
    """Plain pictures of growing width, of which number i has the value 10 i."""
    return [np.full((64, 96 + 8 * i, 3), 10 * i, np.uint8) for i in range(count)]


class Brightness(BatchRuntime):
    """Finds an image's mean value as score, in one row per image and a dead one."""

    def __init__(self, batch: int, rows: str = "dynamic") -> None:
        super().__init__(FakeRuntime().card.updated(batch=batch, rows=rows))
        self.sizes: list[int] = []

    def run_graph(self, x: np.ndarray) -> Sequence[np.ndarray]:
        self.sizes.append(len(x))
        rows = 2 * len(x)
        scores = np.zeros(rows, np.float32)
        scores[::2] = x[:, 0, 0, 0] / 255
        found = np.zeros((rows, 4), np.float32), scores, np.zeros(rows, np.int64), np.zeros((rows, 14, 14), np.float32)
        return found if len(output_names(self.card)) == 4 else (*found, np.arange(rows) // 2)

    def close(self) -> None: ...


def test_a_runtime_without_batches_takes_several_images_too() -> None:
    with FakeRuntime() as runtime:
        found = runtime.infer_batch(pictures(3))
    assert [detections.orig_shape for detections in found] == [(64, 96), (64, 104), (64, 112)]
    assert all(len(detections) == 1 for detections in found)


def test_nothing_in_nothing_out() -> None:
    assert FakeRuntime().infer_batch([]) == []


@pytest.mark.parametrize("rows", ["dynamic", "static"])
@pytest.mark.parametrize(("batch", "images", "runs"), [(1, 3, 3), (2, 4, 2), (4, 5, 2), (4, 1, 1)])
def test_each_image_gets_its_own_rows(batch: int, images: int, runs: int, rows: str) -> None:
    runtime = Brightness(batch, rows)
    found = runtime.infer_batch(pictures(images))
    assert runtime.sizes == [batch] * runs
    scores = [round(255 * float(d.scores.sum())) for d in found]  # score 0 is no detection
    assert scores == [10 * i for i in range(images)]


@pytest.mark.parametrize("batch", [1, 3])
def test_one_image_may_be_given_to_a_batch_model(batch: int) -> None:
    assert len(Brightness(batch).infer(pictures(2)[1])) == 1


def test_a_wrong_image_among_right_ones_is_refused() -> None:
    with pytest.raises(ImageError, match="expected an image"):
        FakeRuntime().infer_batch([*pictures(1), np.zeros((4, 4), np.uint8)])


def test_rows_are_split_by_image_in_their_order() -> None:
    scores = np.array([0.9, 0.5, 0.8], np.float32)
    outputs = np.zeros((3, 4)), scores, np.arange(3), np.zeros((3, 2, 2)), np.array([0, 0, 2])
    first, second, third = split_rows(outputs, 3)
    assert (first.scores.tolist(), second.scores.tolist(), third.labels.tolist()) == (scores[:2].tolist(), [], [2])


def test_batch_is_in_the_contract() -> None:
    card = FakeRuntime().card
    assert output_names(card) == RawOutputs._fields
    assert output_names(card.updated(batch=2)) == (*RawOutputs._fields, "images")
    assert output_names(card.updated(batch=2, rows="static")) == RawOutputs._fields


def test_card_keeps_batch_and_rows() -> None:
    card = FakeRuntime().card.updated(batch=4, rows="static")
    assert ModelCard.from_json(card.to_json()) == card

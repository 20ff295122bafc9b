"""The search for the fewest blocks in float: exact, resumable, and correct for a real file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from quantize import CalibrationSet, QuantizeConfig, open_quantizer, sensitivity
from quantize.base import Quantizer
from quantize.sensitivity import Journal, Sensitivity, fewest, keep_within, output_error, rank_blocks
from runtimes.base import FakeRuntime, RawOutputs
from runtimes.errors import GateError
from runtimes.progress import silent

NAMES = tuple("abcdefg")


class ListQuantizer(Quantizer):
    """Writes the names of the blocks that it keeps in float."""

    def __init__(self, pictures: CalibrationSet) -> None:
        super().__init__(FakeRuntime().card, pictures, QuantizeConfig())
        self.written = 0

    @property
    def blocks(self) -> tuple[str, ...]:
        return NAMES

    def write(self, output: Path, keep_float: Collection[str], *, is_draft: bool = False) -> None:
        self.written += 1
        output.write_text(" ".join(sorted(keep_float)))


def lost(path: Path) -> float:
    """A drop of one hundredth for each block in INT8."""
    return 0.01 * (len(NAMES) - len(path.read_text().split()))


RANKING = [Sensitivity(block=name, error=1.0, cost_ms=1.0) for name in NAMES]


@pytest.mark.parametrize("total", [0, 1, 2, 7, 20])
def test_fewest_is_the_first_that_fits(total: int) -> None:
    for least in range(total + 1):
        asked: list[int] = []
        assert fewest(total, lambda count: asked.append(count) or count >= least) == least  # noqa: B023
        assert len(asked) == len(set(asked)) <= max(total, 1).bit_length() + 2 and least in asked


@pytest.mark.parametrize(("budget", "kept"), [(0.07, 0), (0.045, 3), (0.0, 7)])
def test_fewest_blocks_are_kept(pictures: CalibrationSet, tmp_path: Path, budget: float, kept: int) -> None:
    journal, output = Journal(tmp_path / "journal.json", {}), tmp_path / "out"
    trials = keep_within(ListQuantizer(pictures), RANKING, output, budget, lost, journal, silent)
    assert len(trials[-1].kept) == kept and output.read_text().split() == list(NAMES[:kept])


def test_budget_that_cannot_be_met_fails_the_gate(pictures: CalibrationSet, tmp_path: Path) -> None:
    journal, output = Journal(tmp_path / "journal.json", {}), tmp_path / "out"
    with pytest.raises(GateError, match="every block in float"):
        keep_within(ListQuantizer(pictures), RANKING, output, 0.0, lambda path: 0.5, journal, silent)
    assert output.read_text().split() == list(NAMES)


def test_interrupted_search_measures_nothing_twice(pictures: CalibrationSet, tmp_path: Path) -> None:
    asked: list[str] = []

    def measure(path: Path) -> float:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(path.read_text())
        return lost(path)

    def search() -> None:
        journal = Journal(tmp_path / "journal.json", {"model": ("m", 1)})
        keep_within(ListQuantizer(pictures), RANKING, tmp_path / "out", 0.045, measure, journal, silent)

    with pytest.raises(KeyboardInterrupt):
        search()
    before, asked[:] = list(asked), []
    search()
    assert before and not set(before) & set(asked)


def test_findings_of_another_model_are_not_used(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.json", {"model": 1}).drop(["a"], lambda: 0.5)
    assert Journal(tmp_path / "journal.json", {"model": 1}).drop(["a"], lambda: 0.1) == 0.5
    assert Journal(tmp_path / "journal.json", {"model": 2}).drop(["a"], lambda: 0.1) == 0.1


def outputs(scores: list[float], shift: float = 0.0) -> RawOutputs:
    """Objects side by side, moved to the right by a share of their side."""
    left = np.arange(len(scores), dtype=np.float32)[:, None] * 20 + 10 * shift
    boxes = np.concatenate([left, left * 0, left + 10, left * 0 + 10], 1).astype(np.float32)
    return RawOutputs(boxes, np.array(scores, np.float32), np.zeros(len(scores), int), np.ones((len(scores), 4, 4)))


class TestOutputError:
    def test_equal_outputs_have_no_difference(self) -> None:
        assert output_error(outputs([0.9, 0.5]), outputs([0.9, 0.5])) == pytest.approx(0, abs=1e-6)

    def test_lost_and_new_objects_count_with_their_score(self) -> None:
        assert output_error(outputs([0.8, 0.2]), outputs([0.8])) == pytest.approx(0.2)
        assert output_error(outputs([0.8]), outputs([0.8, 0.4])) == pytest.approx(0.5)

    def test_moved_boxes_count_with_what_does_not_overlap(self) -> None:
        assert output_error(outputs([0.8]), outputs([0.8], shift=0.25)) == pytest.approx(1 - 7.5 / 12.5)

    def test_nothing_found_by_either_is_no_error(self) -> None:
        assert output_error(outputs([]), outputs([])) == 0


def test_blocks_of_a_real_file_are_ranked(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path
) -> None:
    model = float_files[".onnx"]
    quantizer = open_quantizer(model, pictures, QuantizeConfig(images=2, keep_float=("backbone", "rpn")))
    tensors = list(pictures.tensors(quantizer.card, 2))
    journal = Journal(tmp_path / "journal.json", {})
    ranking = rank_blocks(quantizer, model, tensors, journal, silent)
    assert {one.block.split(".")[0] for one in ranking} == {"fpn", "box_head", "mask_head"}
    assert all(0 <= one.error < 1 for one in ranking) and any(one.error > 0 for one in ranking)
    again = rank_blocks(quantizer, model, tensors, journal, silent)
    assert again == ranking, "the journal knows them"
    assert sensitivity.best_times_ms([FakeRuntime(latency_s=0.01), FakeRuntime()], tensors)[0] > 10

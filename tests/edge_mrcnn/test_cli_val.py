"""`val`: the metrics of the evaluation, as a table and as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_mrcnn.cli import group
from edge_mrcnn.cli.val import percent
from edge_mrcnn.data import load
from edge_mrcnn.evaluation.evaluate import evaluate

pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")


def test_checkpoint_is_measured(toy_checkpoint: Path, toy_data: Path, tmp_path: Path) -> None:
    from edge_mrcnn.reference import load_reference

    words = ["--model", str(toy_checkpoint), "--data", str(toy_data), "--per-class", "--json", str(tmp_path / "a.json")]
    result = CliRunner().invoke(group, ["val", *words], catch_exceptions=False)
    assert result.exit_code == 0
    with load_reference(toy_checkpoint, device="cpu") as model:
        expected = evaluate(model, load(toy_data, "val"))
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["box"]["ap"] == pytest.approx(expected.box.ap, abs=1e-5)
    assert record["mask"]["ap50"] == pytest.approx(expected.mask.ap50, abs=1e-5)
    assert set(record["classes"]) == {"square", "disc"} and record["images"] == 3
    lines = [line.split() for line in result.output.splitlines()]
    assert ["box", percent(expected.box.ap)] in [words[:2] for words in lines]
    assert ["mask", percent(expected.mask.ap)] in [words[:2] for words in lines]
    assert any(words[:1] == ["square"] for words in lines)


def test_what_is_not_there_has_a_dash() -> None:
    assert (percent(math.nan), percent(-1), percent(0.1234)) == ("–", "–", "12.3")


def test_model_that_is_not_there(toy_data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(group, ["val", "--model", str(tmp_path / "a.onnx"), "--data", str(toy_data)])
    assert result.exit_code == 1 and "a.onnx" in str(result.exception)

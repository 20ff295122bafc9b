"""The whole chain of commands at toy size. TFLite, whose conversion takes half a minute, has tests of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

for package in ("skimage", "lightning", "torch_pruning", "onnxscript", "openvino", "nncf", "av"):
    pytest.importorskip(package, reason="pip install 'edge-mrcnn[all]'")

import runtimes  # noqa: E402

CHAIN = """
scenes --train 16 --val 3 --imgsz 128 --video scenes.mp4 --seconds 0.5 -o scenes
train --data scenes --model nano-dense --imgsz 128 --epochs 1 --workers 0 --device cpu -o train
prune --weights train/best.pt --data scenes --ratio 0.5 --epochs 1 --workers 0 --device cpu -o prune
export --weights prune/best.pt --target onnx,openvino --int8 --calib scenes --calib-images 8 --conf 0.01 -o models
run --model models/best-int8.onnx --source scenes.mp4 --save run.mp4 --threads 1
report --reference train/best.pt --models prune/best.pt models/best.onnx models/best-int8.onnx models/best-int8.xml \
--data scenes --limit 3 --threads 1 -o report
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chain")


def test_each_command_ends_by_naming_the_next(folder: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for line in CHAIN.strip().splitlines():
        outcome = cli(*line.split())
        assert outcome.code == 0, outcome.err
        last = outcome.out.splitlines()[-1]
        assert last == "wrote run.mp4" if line.startswith("run ") else last.startswith("next: edge-mrcnn ")
        assert "Traceback" not in outcome.err and "Warning" not in outcome.err
    assert sorted(p.name for p in (folder / "models").iterdir()) == [
        "best-int8.bin", "best-int8.onnx", "best-int8.xml", "best.bin", "best.onnx", "best.xml",
        "export.toml",
    ]  # fmt: skip
    check_cards(folder / "models")
    check_report(json.loads((folder / "report" / "report.json").read_text()))


def check_cards(models: Path) -> None:
    """Every file records the training, the pruning and its own export."""
    for name in ("best.onnx", "best-int8.onnx", "best.xml", "best-int8.xml"):
        card = runtimes.read_card(models / name)
        assert card.training["pruned"]["ratio"] == 0.5
        assert card.precision == ("int8" if "int8" in name else "fp32")
        assert card.calibration.get("images", 0) == (8 if "int8" in name else 0)


def check_report(report: dict) -> None:
    """One row per model, the reference first."""
    assert len(report["rows"]) == 5

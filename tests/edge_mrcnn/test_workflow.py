"""The verbs from Python: the examples of the documentation run, and errors are one line."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edge_mrcnn
from edge_mrcnn.config import ModelConfig, TrainConfig
from edge_mrcnn.prune.settings import PruneConfig
from edge_mrcnn.workflow import sort_settings
from runtimes.errors import UsageError

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUICKER = {'model="nano", epochs=30': 'weights="toy.pt", epochs=1, workers=0', "epochs=4": "epochs=1, workers=0"}
"""Value in the documentation -> a smaller value for the test."""


def test_examples_of_the_page_run(tmp_path, monkeypatch, capsys, toy_data, toy_checkpoint):
    for module in ("lightning", "torch_pruning", "onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(module)
    shutil.copytree(toy_data, tmp_path / "shapes")
    shutil.copy(toy_checkpoint, tmp_path / "toy.pt")
    shutil.copy(toy_data / "images" / "val" / "0.png", tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    find, draw, background, chain, check = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    for there, quicker in QUICKER.items():
        assert there in chain
        chain = chain.replace(there, quicker)
    scope: dict[str, object] = {}
    for block in (chain, check):
        exec(block, scope)
    printed = capsys.readouterr().out
    assert re.search(r"box AP -?\d\.\d{3}, mask AP -?\d\.\d{3} on 3 images", printed)
    assert scope["int8"] == Path("models/best-int8.onnx")
    for block in (find, draw, background):
        exec(block, scope)
    assert "Detections(" in capsys.readouterr().out and Path("drawn.jpg").is_file()
    assert (Path("runs/report") / "report.html").is_file()


def test_settings_go_to_the_first_dataclass_that_has_them():
    asked = {"macs": 0.5, "epochs": 3, "seed": 7, "imgsz": 320, "target_latency_ms": None}
    pruning, training, parts = sort_settings(asked, PruneConfig, TrainConfig, ModelConfig)
    assert pruning == {"macs": 0.5, "seed": 7, "latency_ms": None}
    assert training == {"epochs": 3}
    assert parts == {"image_size_hw": (320, 320)}


def test_values_of_a_list_may_be_one_text():
    (parts,) = sort_settings({"milestones": "2,3"}, TrainConfig)
    assert parts == {"milestones": (2, 3)}


def test_unknown_setting_is_named_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="epoch: no such setting, did you mean epochs"):
        edge_mrcnn.train(tmp_path, epoch=3)
    with pytest.raises(UsageError, match="expected max_drop and data together"):
        edge_mrcnn.quantize(tmp_path / "model.onnx", tmp_path, max_drop=0.01)


def test_verbs_are_called_and_stay_packages():
    for name in ("train", "prune", "export", "report"):
        verb = getattr(edge_mrcnn, name)
        assert callable(verb) and verb is sys.modules[f"edge_mrcnn.{name}"]
        assert "device" in inspect.signature(verb).parameters or name == "export"


@pytest.mark.parametrize("name", edge_mrcnn.__all__)
def test_what_is_exported_is_there(name):
    assert getattr(edge_mrcnn, name) is not None


def test_import_brings_neither_torch_nor_an_sdk():
    heavy = ["torch", "lightning", "onnxruntime", "openvino", "cv2", "numpy"]
    code = f"import edge_mrcnn, sys; edge_mrcnn.train; sys.exit(', '.join(set({heavy}) & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

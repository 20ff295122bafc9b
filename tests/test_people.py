"""The files of the included people model: complete, small, and correct on the photographs beside them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runtimes
from quantize.calibration import CalibrationSet
from runtimes import golden, shipped

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "models" / "people" / "edge_mrcnn_people"
CHECKPOINT = ROOT / "models" / "people" / "weights" / "edge_mrcnn_people_weights" / "people.pt"
FORMATS = ("onnx", "openvino", "tflite")
SCRIPTS = (
    "models/people/build.py",
    "benchmarks/people/measure.py",
    "benchmarks/people/mistakes.py",
    "benchmarks/people/picture.py",
    "benchmarks/start_from_people.py",
)
LIMIT_MB = 14
"""Of what a device gets, before it is packed."""
PEOPLE = {  # photograph -> a box that the person certainly fills most of: x0 y0 x1 y1, shares of the picture
    "astronaut.jpg": (0.05, 0.03, 0.75, 1.0),
    "camera.jpg": (0.0, 0.12, 0.62, 1.0),
    "grace_hopper.jpg": (0.05, 0.03, 1.0, 1.0),
}

built = pytest.mark.skipif(not CHECKPOINT.is_file(), reason="the weights are not in this checkout")


@pytest.fixture(autouse=True)
def checkout_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package is ignored; the checkout's is tested."""
    monkeypatch.setattr(shipped, "find_spec", lambda name: None)


def test_photographs_are_what_their_manifest_says() -> None:
    photographs = CalibrationSet.load(PACKAGE / "photographs")
    assert sorted(path.name for path in photographs.files) == sorted(PEOPLE)
    record = json.loads((PACKAGE / "photographs" / "manifest.json").read_text())
    assert {entry["licence"] for entry in record["images"]} <= {"public domain", "CC0"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_that_the_card_names_starts(script: str) -> None:
    for package in ("torch", "lightning"):
        pytest.importorskip(package, reason="pip install 'edge-mrcnn[train]'")
    result = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@built
@pytest.mark.parametrize("runtime", FORMATS)
class TestModel:
    @pytest.fixture
    def model(self, runtime: str):
        package = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert"}[runtime]
        pytest.importorskip(package, reason=f"pip install 'edge-mrcnn[{runtime}]'")
        with runtimes.load(shipped.find_shipped("people").file_for(runtime)) as model:
            yield model

    def test_finds_the_person_of_each_photograph(self, model) -> None:
        for path in shipped.find_shipped("people").photographs:
            image = runtimes.read_image(path)
            found = model.infer(image)
            found = found[found.scores >= 0.5]
            assert len(found) >= 1, path.name
            expected = np.array(PEOPLE[path.name]) * [*image.shape[1::-1], *image.shape[1::-1]]
            assert iou(found.boxes_xyxy[0], expected) > 0.6, path.name
            assert found.masks.data[0].sum() > 0.4 * np.prod(expected[2:] - expected[:2]), path.name

    def test_finds_no_person_in_a_plain_picture(self, model) -> None:
        found = model.infer(np.full((480, 640, 3), 128, np.uint8))
        assert not (found.scores >= 0.5).any()

    def test_computes_here_what_it_computed_where_it_was_made(self, model, runtime) -> None:
        record = golden.read(shipped.find_shipped("people").file_for(runtime))
        assert golden.check(model, record)[-1].passes

    def test_card_says_what_it_is_and_names_no_place(self, model) -> None:
        assert model.card.classes == ("person",)
        assert model.card.precision == "int8"
        assert model.card.checkpoint_sha256 == hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
        assert "/" not in json.dumps(model.card.training)


@built
def test_checkpoint_opens_and_is_sealed() -> None:
    pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
    from edge_mrcnn.model.checkpoint import load_checkpoint
    from runtimes.formats.base import ZIP_SEAL
    from runtimes.seal import check_seal

    check_seal(CHECKPOINT, ZIP_SEAL)
    checkpoint = load_checkpoint("people")
    assert checkpoint.classes == ("person",)
    assert "/" not in json.dumps(checkpoint.training)


@built
def test_package_is_small() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < LIMIT_MB * 1e6
    assert CHECKPOINT.stat().st_size < 10e6


@built
def test_card_has_its_figures() -> None:
    text = (ROOT / "models" / "people" / "README.md").read_text(encoding="utf-8")
    assert "Not measured yet" not in text
    assert text.count("| people.tflite |") >= 3


def iou(box: np.ndarray, other: np.ndarray) -> float:
    """Of two boxes x0 y0 x1 y1."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    shared = np.clip(high - low, 0, None).prod()
    areas = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2])
    return float(shared / (areas - shared))

"""`edge-mrcnn verify`: exit 0 if a model gives its recorded outputs, 3 if not, 1 if it cannot be tested."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import runtimes
from runtimes import golden
from runtimes.seal import write_seal

onnx = pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'edge-mrcnn[onnx]'")


@pytest.fixture
def model(model_files: dict[str, Path], tmp_path: Path) -> Path:
    """An ONNX model with golden tensors."""
    return with_golden(Path(shutil.copy(model_files[".onnx"], tmp_path)), {"empty": 0, "sparse": 1, "crowded": 5})


def with_golden(path: Path, counts: dict[str, int]) -> Path:
    with runtimes.load(path, threads=1) as runtime:
        pictures = []
        for name, count in counts.items():
            image = np.zeros((1, *runtime.card.input_size_hw, 3), np.uint8)
            image[..., 0] = count
            pictures.append((name, image, runtime.run(image)))
        golden.attach(path, golden.make_record(runtime, pictures))
    return path


def change_weights(path: Path, name: str) -> None:
    """Change one tensor of an ONNX file, as if the runtime computed it wrongly."""
    record, proto = golden.read(path), onnx.load(path)
    (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == name)
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), name))
    onnx.save(proto, path)
    write_seal(path)
    golden.attach(path, record)


def test_correct_model_passes_and_the_platform_is_named(model: Path, cli: Callable) -> None:
    outcome = cli("verify", model)
    assert outcome.code == 0, outcome.err
    assert "checked on 6 detections" in outcome.out
    assert outcome.out.count(" ok\n") == 4
    assert outcome.out.splitlines()[-1].startswith("next: edge-mrcnn run ")
    assert max(map(len, outcome.out.splitlines()[3:8])) <= 100


@pytest.mark.parametrize("tensor", ["all_boxes", "all_masks"])
def test_changed_weights_are_caught(model: Path, cli: Callable, tensor: str) -> None:
    change_weights(model, tensor)
    outcome = cli("verify", model)
    assert outcome.code == 3
    assert "wrong results on this device (checked on" in outcome.err and len(outcome.err.splitlines()) == 1
    assert "differs" in outcome.out


def test_golden_tensors_without_detections_are_no_proof(
    model_files: dict[str, Path], tmp_path: Path, cli: Callable
) -> None:
    path = with_golden(Path(shutil.copy(model_files[".onnx"], tmp_path)), {"empty": 0})
    outcome = cli("verify", path)
    assert outcome.code == 0
    assert "warning: checked on 0 detections" in outcome.err


def test_a_model_without_golden_tensors_cannot_be_verified(model_files: dict[str, Path], cli: Callable) -> None:
    outcome = cli("verify", model_files[".onnx"])
    assert outcome.code == 1
    assert "export it again" in outcome.err


def test_an_option_of_another_runtime_is_wrong_usage(model: Path, cli: Callable) -> None:
    outcome = cli("verify", model, "--precision", "f32")
    assert outcome.code == 2
    assert "precision: is an option of OpenVINO (OpenVinoOptions)" in outcome.err

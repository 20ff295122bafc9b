"""A pruned model with odd numbers of channels quantizes like any other, and its file names the share in INT8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("torch_pruning", reason="pip install 'edge-mrcnn[prune]'")
onnx = pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")

import runtimes  # noqa: E402
from edge_mrcnn.export.graph import DeployGraph  # noqa: E402
from edge_mrcnn.export.onnx_target import write_onnx  # noqa: E402
from edge_mrcnn.inspection import list_operators  # noqa: E402
from edge_mrcnn.inspection.summary import summarize  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint  # noqa: E402
from edge_mrcnn.prune.groups import find_groups  # noqa: E402
from edge_mrcnn.prune.surgery import cut  # noqa: E402
from edge_mrcnn.reference import TorchRuntime  # noqa: E402
from quantize import CalibrationSet, QuantizeConfig, quantize  # noqa: E402


@pytest.fixture(scope="module")
def pruned(make_small: Callable[[], tuple[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP32 file of a model that lost a third of the channels of every group."""
    model, config = make_small()
    whole = Checkpoint(model=model, config=config, classes=("a", "b"), category_ids=(1, 2))
    groups = find_groups(whole)
    cut(model, groups, {group.name: torch.arange(group.width // 3) for group in groups})
    path = tmp_path_factory.mktemp("pruned") / "pruned.onnx"
    card = TorchRuntime(whole, device="cpu", sha256="0" * 64).card
    write_onnx(DeployGraph(model, config), card.updated(target="onnx"), path)
    return path


@pytest.fixture(scope="module")
def int8_file(pruned: Path, pictures: CalibrationSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("int8") / "pruned.onnx"
    return quantize(pruned, output, pictures, QuantizeConfig(images=3))


def test_pruned_model_still_detects_in_int8(pruned: Path, int8_file: Path, pictures: CalibrationSet) -> None:
    with runtimes.load(pruned, threads=1) as exact, runtimes.load(int8_file, threads=1) as rounded:
        for image in pictures.images():
            expected, found = exact.infer(image), rounded.infer(image)
            assert len(expected) > 0 and len(found) > 0
            assert abs(expected.scores[0] - found.scores[0]) < 0.15


def test_integer_share_is_that_of_the_stored_weights(int8_file: Path) -> None:
    stored = [onnx.numpy_helper.to_array(i) for i in onnx.load(int8_file).graph.initializer]
    integers = sum(w.size for w in stored if w.dtype == np.int8 and w.ndim > 1)
    summary = summarize(list_operators(int8_file), runtimes.read_card(int8_file).calibration["float"])
    counted = sum(part.integer_weights for part in summary.parts)
    assert integers <= counted <= 1.05 * integers, "biases count too"
    assert summary.integer_share > 0.8

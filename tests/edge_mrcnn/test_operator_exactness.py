"""NMS and RoIAlign of each target equal torchvision's; `benchmarks/operator_exactness.py` does it on 10,000 sets."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
from benchmarks import operator_exactness as exactness  # noqa: E402

PACKAGES = {
    "onnx": ("onnxscript", "onnxruntime"),
    "onnx-static": ("onnxscript", "onnxruntime"),
    "openvino": ("onnxscript", "openvino"),
    "tflite": ("litert_torch",),
}
SETS = 170
"""Of each kind of boxes: 1,000 in all, each at three thresholds."""


@pytest.fixture(scope="module", params=list(exactness.TARGETS))
def lowered(request: pytest.FixtureRequest) -> exactness.Lowered:
    """Both operators, converted once."""
    with exactness.warnings.catch_warnings():
        exactness.warnings.simplefilter("ignore")  # of the converters and their dependencies
        for package in PACKAGES[request.param]:
            pytest.importorskip(package, reason="pip install 'edge-mrcnn[export]'")
        return exactness.TARGETS[request.param]()


@pytest.mark.parametrize("kind", exactness.BOX_SETS)
def test_nms_keeps_what_torchvision_keeps(lowered: exactness.Lowered, kind: str) -> None:
    equal = exactness.compare_nms(lowered, exactness.BOX_SETS[kind], SETS)
    assert equal.tolist() == [SETS] * len(exactness.THRESHOLDS)


def test_nms_of_nothing_keeps_nothing(lowered: exactness.Lowered) -> None:
    boxes, scores = np.zeros((exactness.BOXES, 4), np.float32), np.zeros(exactness.BOXES, np.float32)
    assert lowered.nms(boxes, scores) == [[]] * len(exactness.THRESHOLDS)


@pytest.mark.parametrize("kind", exactness.ROI_SETS)
def test_roi_align_is_torchvisions_multi_scale_pooling(lowered: exactness.Lowered, kind: str) -> None:
    assert exactness.compare_roi_align(lowered, exactness.ROI_SETS[kind], 30) < exactness.REQUIRED_DIFFERENCE


def test_sets_have_the_declared_contents() -> None:
    dead = [exactness.box_set(exactness.scattered, seed)[1].max() == 0 for seed in range(300)]
    assert any(dead) and not all(dead)
    boxes, scores = exactness.box_set(exactness.duplicated, 1)
    assert len(np.unique(boxes, axis=0)) < exactness.BOXES / 3 and (np.diff(scores) <= 0).all()
    kept = [exactness.expected_nms(*exactness.box_set(exactness.on_grid, seed)) for seed in range(50)]
    assert any(low != high for low, _, high in kept)

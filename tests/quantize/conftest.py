"""A small exported model and pictures to calibrate it with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from quantize.calibration import CalibrationSet
from runtimes import ModelCard


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> CalibrationSet:
    """Six pictures of coloured noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for index in range(6):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (8, 16, 3), dtype=np.uint8).repeat(8, 0))
    return CalibrationSet.load(folder)


@pytest.fixture(scope="session")
def make_small() -> Callable[[], tuple[Any, Any]]:
    """Makes a model with random weights, the same each time, and its configuration."""
    for package in ("torch", "onnx", "onnxscript", "openvino"):
        pytest.importorskip(package, reason="pip install 'edge-mrcnn[export]'")
    import torch

    from edge_mrcnn.config import ModelConfig
    from edge_mrcnn.model.mask_rcnn import build_model

    def make() -> tuple[Any, Any]:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        config = ModelConfig(
            name="small", image_size_hw=(64, 128), backbone="repvgg_lite", fpn_channels=16, box_hidden=(32,),
            mask_hidden=(16,), proposals=16, proposals_per_level=40, max_detections=6,
        )  # fmt: skip
        model = build_model(config, 2).eval()
        for layer in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
            torch.nn.init.normal_(layer.weight, std=0.5)
        return model, config

    return make


@pytest.fixture(scope="session")
def float_files(make_small: Callable[[], tuple[Any, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Suffix to the FP32 file of one model with random weights."""
    from edge_mrcnn.export.graph import DeployGraph
    from edge_mrcnn.export.onnx_target import write_onnx
    from edge_mrcnn.export.openvino_target import write_openvino

    model, config = make_small()
    card = ModelCard(
        name="small", classes=("a", "b"), category_ids=(1, 2), input_size_hw=config.image_size_hw,
        pad_rgb=(124, 116, 104), proposals=16, max_detections=6, mask_size=28, score_threshold=0.05, iou_threshold=0.5,
    )  # fmt: skip
    graph, folder = DeployGraph(model, config), tmp_path_factory.mktemp("float")
    write_onnx(graph, card.updated(target="onnx"), folder / "small.onnx")
    write_openvino(graph, card.updated(target="openvino"), folder / "small.xml")
    return {".onnx": folder / "small.onnx", ".xml": folder / "small.xml"}

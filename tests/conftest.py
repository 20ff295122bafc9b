"""Toy models that keep the contract, one file per format, made by hand once per session and only when asked for.

Each answers as many detections as the red value of the image's first pixel says, so that a plain picture of colour
(n, 0, 0) has n of them; boxes, scores, labels and masks are known.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from runtimes import CARD_KEY, ModelCard

ROWS, BATCH, SIDE = 6, 4, 14


class Scene(NamedTuple):
    """What the toy models know."""

    card: ModelCard
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


class ExportedModel(NamedTuple):
    """A torchvision Mask R-CNN and what was exported from it."""

    model: Any
    path: Path


@pytest.fixture(scope="session")
def scene() -> Scene:
    card = ModelCard(
        name="toy",
        classes=("cat", 'a "quoted" <dog> é'),
        category_ids=(17, 18),
        input_size_hw=(64, 96),
        pad_rgb=(114, 114, 114),
        proposals=8,
        max_detections=ROWS,
        mask_size=SIDE,
        mask_offset=0.0,
        score_threshold=0.05,
        iou_threshold=0.5,
    )
    x0 = np.arange(ROWS) * 10 + 4.0
    boxes = np.stack([x0, x0 / 2, x0 + 24, x0 / 2 + 20], axis=1).astype(np.float32)
    scores = np.linspace(0.9, 0.4, ROWS, dtype=np.float32)
    labels = np.arange(ROWS) % 2
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    disc = (np.hypot(axis, axis[:, None]) < 0.9).astype(np.float32)
    return Scene(card, boxes, scores, labels, disc * (1 - 0.2 * labels[:, None, None].astype(np.float32)))


@pytest.fixture(scope="session")
def model_files(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Suffix -> model file with a card."""
    return ToyModels(tmp_path_factory.mktemp("toy models"), scene)


class ToyModels(dict[str, Path]):
    """Makes the file of a suffix when it is first asked for: the TFLite conversion takes many seconds."""

    def __init__(self, folder: Path, scene: Scene) -> None:
        super().__init__()
        self.folder = folder
        self._scene = scene

    def __missing__(self, suffix: str) -> Path:
        path = self.folder / f"toy{suffix}"
        if suffix == ".xml":
            write_openvino(path, self[".onnx"], self._scene)
        else:
            {".onnx": write_onnx, ".tflite": write_tflite}[suffix](path, self._scene)
        self[suffix] = path
        return path


def write_onnx(path: Path, scene: Scene) -> None:
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    constants = {
        "first": np.array([0, 0, 0, 0], np.int64),
        "second": np.array([1, 1, 1, 1], np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "all_boxes": scene.boxes,
        "all_scores": scene.scores,
        "all_labels": scene.labels.astype(np.int64),
        "all_masks": scene.masks,
    }
    names = ("boxes", "scores", "labels", "masks")
    nodes = [
        helper.make_node("Slice", ["image", "first", "second"], ["corner"]),
        helper.make_node("Reshape", ["corner", "one"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["count"], to=kinds.INT64),
        *(helper.make_node("Slice", [f"all_{name}", "zero", "count", "zero"], [name]) for name in names),
    ]
    kind = {"labels": kinds.INT64}
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", kinds.UINT8, [1, *scene.card.input_size_hw, 3])],
        [
            helper.make_tensor_value_info(n, kind.get(n, kinds.FLOAT), ["D", *constants[f"all_{n}"].shape[1:]])
            for n in names
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {CARD_KEY: scene.card.updated(target="onnx").to_json()})
    onnx.save(model, path)


def write_openvino(path: Path, onnx_path: Path, scene: Scene) -> None:
    openvino = pytest.importorskip("openvino")
    model = openvino.convert_model(str(onnx_path))
    model.set_rt_info(scene.card.updated(target="openvino").to_json(), [CARD_KEY, "card"])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def write_tflite(path: Path, scene: Scene) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter and its hundred dependencies
        litert_torch = pytest.importorskip("litert_torch")
        import torch

        class Detect(torch.nn.Module):
            def forward(self, image):
                count = image[0, 0, 0, 0].float()
                live = (torch.arange(ROWS) < count).float()
                p0 = image.permute(0, 3, 1, 2).float() / 255
                return {
                    "boxes": torch.from_numpy(scene.boxes) * live[:, None],
                    "scores": torch.from_numpy(scene.scores) * live,
                    "labels": torch.from_numpy(scene.labels).int() * live.int(),
                    "p0": p0,
                    "p1": p0[:, :, ::2, ::2] * 2,
                }

        class Mask(torch.nn.Module):
            def forward(self, p0, p1, boxes, labels):
                disc = torch.from_numpy(scene.masks[0])
                return {"masks": disc * (1 - 0.2 * labels.float())[:, None, None] + 0 * (p0.mean() + p1.mean())}

        height, width = scene.card.input_size_hw
        image = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        p0, p1 = torch.zeros(1, 3, height, width), torch.zeros(1, 3, height // 2, width // 2)
        boxes, labels = torch.zeros(BATCH, 4), torch.zeros(BATCH, dtype=torch.int32)
        converter = litert_torch.signature("detect", Detect().eval(), sample_kwargs={"image": image})
        masks = {"p0": p0, "p1": p1, "boxes": boxes, "labels": labels}
        converter.signature("mask", Mask().eval(), sample_kwargs=masks).convert().export(str(path))
    from runtimes import tflite_backend

    tflite_backend.write_card(path, scene.card.updated(target="tflite"))


@pytest.fixture(scope="session")
def small_tflite(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """A small real Mask R-CNN with random weights that finds objects everywhere, and its TFLite file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter and its hundred dependencies
        pytest.importorskip("litert_torch")
        import torch

        from edge_mrcnn.config import ModelConfig
        from edge_mrcnn.export.graph import DeployGraph
        from edge_mrcnn.export.tflite_target import write_tflite
        from edge_mrcnn.model.mask_rcnn import build_model

        config = ModelConfig(
            name="small", image_size_hw=(64, 128), backbone="repvgg_lite", fpn_channels=16, box_hidden=(32,),
            mask_hidden=(16,), class_agnostic_boxes=False, proposals=16, proposals_per_level=40, max_detections=6,
        )  # fmt: skip
        torch.manual_seed(0)
        model = build_model(config, 3).eval()
        for layer in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
            torch.nn.init.normal_(layer.weight, std=0.5)
        torch.nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.weight, std=0.1)
        card = ModelCard(
            name="small", classes=("a", "b", "c"), category_ids=(1, 2, 3), input_size_hw=config.image_size_hw,
            pad_rgb=(124, 116, 104), proposals=16, max_detections=6, mask_size=28, score_threshold=0.05,
            iou_threshold=0.5, target="tflite",
        )  # fmt: skip
        path = tmp_path_factory.mktemp("small model") / "small.tflite"
        write_tflite(DeployGraph(model, config), card, path)
    return ExportedModel(model, path)

"""Toy data and small models with random weights that are alive: they find objects everywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from edge_mrcnn.config import ModelConfig

CATEGORIES = {3: "square", 7: "disc"}
"""Ids are sparse, as COCO's own are."""


class Outcome(NamedTuple):
    """What a command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small models are quickest on one thread, and leave the other cores alone."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The command line as a user meets it, in this process."""
    from edge_mrcnn.cli import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["edge-mrcnn", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        return Outcome(int(exit_.value.code or 0), *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder: six images to train on and three to validate on, the last of each without an object."""
    folder = tmp_path_factory.mktemp("toy data")
    for split, count in (("train", 6), ("val", 3)):
        _write_split(folder, split, count)
    return folder


def _write_split(folder: Path, split: str, count: int) -> None:
    rng = np.random.default_rng(len(split))
    images, annotations = [], []
    (folder / "images" / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for number in range(count):
        pixels = rng.integers(0, 80, (96, 128, 3), dtype=np.uint8)
        images.append({"id": 10 * number + 5, "file_name": f"{number}.png", "height": 96, "width": 128})
        for category in CATEGORIES if number < count - 1 else ():
            polygon = _draw(pixels, category, rng)
            annotations.append(_annotation(len(annotations) + 1, images[-1]["id"], category, polygon))
        cv2.imwrite(str(folder / "images" / split / f"{number}.png"), pixels)
    record = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in CATEGORIES.items()],
    }
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(record))


def _draw(pixels: np.ndarray, category: int, rng: np.random.Generator) -> np.ndarray:
    """Paint an object where its fellows are not, and return its outline (K, 2)."""
    center, radius = np.array([32 if category == 3 else 96, rng.integers(30, 66)]), int(rng.integers(12, 28))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    shape = corners if category == 3 else np.stack([np.cos(angles), np.sin(angles)], 1)
    outline = (center + radius * shape).round().astype(np.int32)
    cv2.fillPoly(pixels, [outline], (200, 60, 220) if category == 3 else (40, 220, 90))
    return outline


def _annotation(number: int, image_id: int, category: int, outline: np.ndarray) -> dict[str, Any]:
    x, y, width, height = cv2.boundingRect(outline)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "segmentation": [outline.ravel().astype(float).tolist()],
        "bbox": [x, y, width, height],
        "area": float(cv2.contourArea(outline)),
        "iscrowd": 0,
    }


@pytest.fixture(scope="session")
def toy_config() -> ModelConfig:
    return ModelConfig(
        name="toy", image_size_hw=(64, 128), backbone="repvgg_lite", fpn_channels=16, box_hidden=(32,),
        mask_hidden=(16,), proposals=16, proposals_per_level=40, max_detections=6,
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_lively() -> Callable[..., Any]:
    """A function (config, classes, seed) that builds a model whose scores and boxes differ from place to place."""
    return _make_lively


def _make_lively(config: ModelConfig, classes: int, seed: int = 0) -> Any:
    import torch
    from torch import nn

    from edge_mrcnn.model.mask_rcnn import build_model

    torch.manual_seed(seed)
    model = build_model(config, classes).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)
            layer.running_mean.normal_(0, 0.1)
    _normalise_pyramid(model, config)
    for layer, deviation in (
        (model.rpn.head.cls_logits, 0.3),
        (model.rpn.head.bbox_pred, 0.03),
        (model.roi_heads.box_predictor.cls_score, 0.5),
        (model.roi_heads.box_predictor.bbox_pred, 0.1),
    ):
        nn.init.normal_(layer.weight, std=deviation)
    return model


def _normalise_pyramid(model: Any, config: ModelConfig) -> None:
    """Scale the last convolutions of the pyramid so that its maps are of unit size: no score saturates."""
    import torch

    noise = torch.randn(1, 3, *config.image_size_hw, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = model.backbone(noise)
        for block, features in zip(model.backbone.fpn.layer_blocks, maps.values(), strict=False):
            layer = block[-1] if isinstance(block[-1], torch.nn.BatchNorm2d) else block[0]
            layer.weight.div_(features.std())


@pytest.fixture(scope="session")
def toy_checkpoint(tmp_path_factory: pytest.TempPathFactory, toy_config: ModelConfig) -> Path:
    """A saved lively model with the classes of the toy data."""
    from edge_mrcnn.model.checkpoint import Checkpoint, save_checkpoint

    path = tmp_path_factory.mktemp("toy checkpoint") / "toy.pt"
    names, ids = tuple(CATEGORIES.values()), tuple(CATEGORIES)
    model = _make_lively(toy_config, len(ids))
    save_checkpoint(path, Checkpoint(model=model, config=toy_config, classes=names, category_ids=ids))
    return path


@pytest.fixture(scope="session")
def noise_tensors(toy_config: ModelConfig) -> list[np.ndarray]:
    """Three inputs (1, H, W, 3) uint8: noise, noise that fades, and a plain gray."""
    height, width = toy_config.image_size_hw
    noise = np.random.default_rng(1).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    faded = (noise * np.linspace(0, 1, width)[:, None]).astype(np.uint8)
    return [noise, faded, np.full_like(noise, 128)]

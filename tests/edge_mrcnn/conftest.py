"""Toy data; the small models that fit it are in the conftest above."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mrcnn.config import ModelConfig

CATEGORIES = {3: "square", 7: "disc"}
"""Ids are sparse, as COCO's own are."""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Use one thread: small models are fastest so, and the other cores stay free."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)


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
def toy_files(toy_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Target to the FP32 file that `export` made of the toy checkpoint, for every test that only reads it."""
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="pip install 'edge-mrcnn[export]'")
    from edge_mrcnn.export.pipeline import export
    from edge_mrcnn.export.settings import ExportConfig

    targets = ("onnx", "openvino")
    files = export(toy_checkpoint, tmp_path_factory.mktemp("toy files"), ExportConfig(targets=targets))
    return dict(zip(targets, files, strict=True))


@pytest.fixture(scope="session")
def noise_tensors(toy_config: ModelConfig) -> list[np.ndarray]:
    """Three inputs (1, H, W, 3) uint8: noise, noise that fades, and a plain gray."""
    height, width = toy_config.image_size_hw
    noise = np.random.default_rng(1).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    faded = (noise * np.linspace(0, 1, width)[:, None]).astype(np.uint8)
    return [noise, faded, np.full_like(noise, 128)]

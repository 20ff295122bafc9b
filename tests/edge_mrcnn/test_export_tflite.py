"""The TFLite file gives torchvision's outputs; tests of the two lowered operators on many inputs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import numpy as np
import pytest

import runtimes

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the converter and its hundred dependencies
    litert_torch = pytest.importorskip("litert_torch", reason="pip install 'edge-mrcnn[export]'")

from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from torchvision import ops  # noqa: E402

from edge_mrcnn.export import operators  # noqa: E402
from edge_mrcnn.export.lowering import tflite_ops  # noqa: E402
from edge_mrcnn.inspection import count_kinds, list_operators  # noqa: E402

BOXES, LIMIT = 60, 20
THRESHOLD = 0.6
"""Not a float32: the nearest one is above it, where torchvision compares in double."""
ROIS, SIZE = 16, 7
SCALES, BOUNDS = [1 / 8, 1 / 16, 1 / 32], [36.0**2, 71.3**2]
MAPS_HWC = [(8, 16, 16), (4, 8, 16), (2, 4, 16)]
"""As many channels as columns and boxes: the converter has mixed up axes of equal length."""


class Nms(torch.nn.Module):
    def forward(self, boxes, scores):
        kept, count = operators.nms(boxes, scores, THRESHOLD, LIMIT)
        return {"kept": kept.int(), "count": count.int()}


class RoiAlign(torch.nn.Module):
    def forward(self, boxes, p0, p1, p2):
        maps = [features.permute(0, 3, 1, 2) for features in (p0, p1, p2)]
        return {"pooled": operators.multiscale_roi_align(maps, boxes, SCALES, BOUNDS, SIZE, 2)}


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """Both operators in one file."""
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    maps = {f"p{i}": torch.zeros(1, *size) for i, size in enumerate(MAPS_HWC)}
    converter = litert_torch.Converter()
    nms = {"boxes": torch.zeros(BOXES, 4), "scores": torch.zeros(BOXES)}
    converter.signature("nms", Nms().eval(), sample_kwargs=nms)
    converter.signature("roi_align", RoiAlign().eval(), sample_kwargs={"boxes": torch.zeros(ROIS, 4), **maps})
    with warnings.catch_warnings(), tflite_ops.lowered_operators():
        warnings.simplefilter("ignore")
        content = converter.convert().model_content()
    return Interpreter(model_content=content, num_threads=1)


def crowded(rng: np.random.Generator) -> np.ndarray:
    """Boxes around three centres."""
    center = rng.uniform(20, 80, (3, 2))[rng.integers(0, 3, BOXES)] + rng.normal(0, 3, (BOXES, 2))
    half = rng.uniform(5, 15, (BOXES, 2))
    return np.concatenate([center - half, center + half], axis=1)


def on_grid(rng: np.random.Generator) -> np.ndarray:
    """Small integer boxes: many equal ones, and IoUs of exactly 3 / 5."""
    low = rng.integers(0, 3, (BOXES, 2))
    return np.concatenate([low, low + rng.integers(1, 6, (BOXES, 2))], axis=1)


def scattered(rng: np.random.Generator) -> np.ndarray:
    low = rng.uniform(0, 300, (BOXES, 2))
    return np.concatenate([low, low + rng.uniform(0.01, 60, (BOXES, 2))], axis=1)


@pytest.mark.parametrize("make", [crowded, on_grid, scattered])
def test_nms_keeps_what_torchvision_keeps(interpreter: Interpreter, make: Callable) -> None:
    run = interpreter.get_signature_runner("nms")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        boxes = make(rng).astype(np.float32)
        scores = np.sort(rng.integers(0, 9, BOXES))[::-1].astype(np.float32) / 8  # tied, the last ones dead
        scores[rng.integers(0, BOXES + 1) :] = 0
        found = run(boxes=boxes, scores=scores)
        expected = expected_nms(boxes, scores)
        assert found["kept"][: int(found["count"])].tolist() == expected


def expected_nms(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    alive = torch.from_numpy(boxes[scores > 0])
    ranks = torch.arange(len(alive), 0, -1).float()
    return ops.nms(alive, ranks, THRESHOLD)[:LIMIT].tolist()


def test_nms_is_not_caught_by_boxes_without_area(interpreter: Interpreter) -> None:
    boxes = np.tile(np.array([[5, 5, 5, 9], [10, 10, 20, 20]], np.float32), (BOXES // 2, 1))
    found = interpreter.get_signature_runner("nms")(boxes=boxes, scores=np.ones(BOXES, np.float32))
    assert (int(found["count"]), found["kept"][0]) == (1, 1)


def test_nms_of_nothing_keeps_nothing(interpreter: Interpreter) -> None:
    run = interpreter.get_signature_runner("nms")
    found = run(boxes=np.zeros((BOXES, 4), np.float32), scores=np.zeros(BOXES, np.float32))
    assert int(found["count"]) == 0


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.7, 1 / 3])
def test_threshold_is_the_first_float_above(threshold: float) -> None:
    above = np.float32(operators.next_above(threshold))
    assert float(above) > threshold >= float(np.nextafter(above, np.float32(0)))


def roi_boxes(kind: str, rng: np.random.Generator) -> np.ndarray:
    width, height = 128, 64
    low = rng.uniform(0, 1, (ROIS, 2)) * (width, height)
    side = {"any": rng.uniform(1, 100, (ROIS, 2)), "tiny": rng.uniform(0, 0.5, (ROIS, 2))}
    if kind in side:
        return np.concatenate([low, np.minimum(low + side[kind], (width, height))], axis=1)
    if kind == "at the border":
        return np.concatenate([np.maximum(low, (width - 3, height - 3)), np.full((ROIS, 2), (width, height))], axis=1)
    if kind == "outside":
        return np.concatenate([low - 40, low + 40], axis=1)
    step = np.nextafter(np.float32(36), np.float32(rng.choice([0, 99])))  # of level 0 or 1, by the last bit
    return np.tile(np.array([0, 0, step, 36], np.float32), (ROIS, 1))


@pytest.mark.parametrize("kind", ["any", "tiny", "at the border", "outside", "between levels"])
def test_roi_align_is_torchvisions(interpreter: Interpreter, kind: str) -> None:
    run = interpreter.get_signature_runner("roi_align")
    for seed in range(10):
        rng = np.random.default_rng(seed)
        maps = [rng.normal(size=(1, *size)).astype(np.float32) for size in MAPS_HWC]
        boxes = roi_boxes(kind, rng).astype(np.float32)
        found = run(boxes=boxes, **{f"p{i}": features for i, features in enumerate(maps)})["pooled"]
        expected = RoiAlign()(torch.from_numpy(boxes), *map(torch.from_numpy, maps))["pooled"]
        assert np.abs(found - expected.numpy()).max() < 1e-4


def test_a_box_belongs_to_one_level_and_to_the_upper_one_at_the_bound() -> None:
    sides = torch.tensor([0.0, 35.999998, 36.0, 36.000004, 71.29999, 71.3, 500.0])
    boxes = torch.stack([torch.zeros(7), torch.zeros(7), sides, sides], 1)
    levels = torch.stack(tflite_ops.level_weights(boxes, BOUNDS))
    assert torch.equal(levels.sum(0), torch.ones(7))
    assert torch.equal(levels.argmax(0), operators.box_levels(boxes, BOUNDS))


def test_other_conversions_do_not_see_the_lowerings() -> None:
    from litert_torch.fx_infra import decomp

    before = decomp.pre_convert_decomp(), decomp.pre_lower_decomp()
    with tflite_ops.lowered_operators():
        assert torch.ops.edge_mrcnn.nms.default in decomp.pre_lower_decomp()
    assert (decomp.pre_convert_decomp(), decomp.pre_lower_decomp()) == before


def pictures() -> list[np.ndarray]:
    """Noise, and noise that grows from nothing to the right."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 64, 128, 3), dtype=np.uint8)
    return [*noise, (noise[0] * np.linspace(0, 1, 128)[:, None]).astype(np.uint8)]


def find_by_torch(model: torch.nn.Module, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Inference without pasting the masks."""
    with torch.inference_mode():
        images, _ = model.transform([torch.from_numpy(picture).permute(2, 0, 1)])
        maps = model.backbone(images.tensors)
        proposals, _ = model.rpn(images, maps)
        (found,), _ = model.roi_heads(maps, proposals, images.image_sizes)
    return {name: value.numpy() for name, value in found.items()}


def test_file_finds_what_torchvision_finds(small_tflite) -> None:
    with runtimes.load(small_tflite.path, threads=1) as runtime:
        for picture in pictures():
            found, expected = runtime.run(picture[None]), find_by_torch(small_tflite.model, picture)
            live = found.scores > 0
            assert live.sum() == len(expected["scores"]) > 0
            assert np.array_equal(found.labels[live], expected["labels"] - 1)
            assert np.abs(found.scores[live] - expected["scores"]).max() < 1e-5
            assert np.abs(found.boxes[live] - expected["boxes"]).max() < 1e-3
            assert np.abs(found.masks[live] - expected["masks"][:, 0]).max() < 1e-4


def test_file_has_builtin_operators_only(small_tflite) -> None:
    found = count_kinds(list_operators(small_tflite.path))
    assert found["NON_MAX_SUPPRESSION_V4"] == 2
    assert not [name for name in found if name.startswith(("CUSTOM", "Flex"))]


def test_signatures_share_their_weights(small_tflite) -> None:
    weights = sum(p.numel() for p in small_tflite.model.parameters())
    assert small_tflite.path.stat().st_size < 4 * weights + 600_000


def test_card_travels_in_the_file(small_tflite) -> None:
    card = runtimes.read_card(small_tflite.path)
    assert (card.name, card.target, card.precision) == ("small", "tflite", "fp32")

"""Checkpoints of Detectron2 and MMDetection answer here as they do there; what cannot be used is named.

The models are small ResNet FPNs with random weights under their projects' names; Detectron2's answers come from its
inference, written once more in tests/helpers/detectron2_model.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

import yaml  # noqa: E402
from detectron2_model import Recipe, infer, make_state  # noqa: E402

from edge_mrcnn.export.graph import DeployGraph  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from edge_mrcnn.model.mask_rcnn import apply_inference_settings  # noqa: E402
from edge_mrcnn.reference import TorchRuntime, make_card  # noqa: E402
from runtimes.base import RawOutputs  # noqa: E402
from runtimes.parity import Tolerance, compare_answers  # noqa: E402

SIZE_HW = (128, 192)

RECIPES = {
    "r50": Recipe(),
    "r50-stride-in-3x3": Recipe(
        stride_in_1x1=False, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), format="RGB"
    ),
    "r101": Recipe(depth=101, classes=5),
    "other-mean": Recipe(mean=(102.9801, 115.9465, 122.7717), classes=1),
    "roialign-v1-two-samples": Recipe(aligned=False, samples=2),
    "two-samples": Recipe(samples=2),
}


def picture(seed: int = 0) -> Any:
    """(H, W, 3) uint8 RGB: smooth noise, in which there is something to find."""
    coarse = torch.randint(0, 256, (1, 3, 16, 24), generator=torch.Generator().manual_seed(seed)).float()
    smooth = torch.nn.functional.interpolate(coarse, SIZE_HW, mode="bilinear")
    return smooth[0].permute(1, 2, 0).round().to(torch.uint8)


def write_detectron2(folder: Path, recipe: Recipe, **changes: Any) -> Path:
    """`model_final.pth` and `config.yaml` as a training of Detectron2 leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    state = make_state(recipe) | changes
    torch.save({"model": state, "iteration": 1, "trainer": {}}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe.config()))
    return folder / "model_final.pth"


def at_size(checkpoint: Checkpoint) -> Checkpoint:
    config = checkpoint.config.updated(image_size_hw=SIZE_HW)
    apply_inference_settings(checkpoint.model, config)
    return replace(checkpoint, config=config)


EXACT = Tolerance(box_px=1e-3, score=1e-5, mask=1e-4, matched=1.0, surplus=0.0)


def assert_same(found: Any, expected: Any, checkpoint: Checkpoint, tolerance: Tolerance = EXACT) -> None:
    """Every detection is there, and as it should be."""
    wanted, got = (RawOutputs(*(np.asarray(values) for values in answer)) for answer in (expected, found))
    parity = compare_answers([wanted], [got], make_card(checkpoint), tolerance)
    assert parity.detections > 5
    assert parity.passes(tolerance), str(parity)


@pytest.mark.parametrize("name", RECIPES)
def test_detectron2_checkpoint_answers_as_detectron2_does(name: str, tmp_path: Path) -> None:
    recipe, image = RECIPES[name], picture()
    checkpoint = at_size(load_checkpoint(write_detectron2(tmp_path, recipe)))
    expected = infer(make_state(recipe), recipe, image)
    assert_same(TorchRuntime(checkpoint, device="cpu").run(image.numpy()[None]), expected, checkpoint)
    with torch.inference_mode():
        assert_same(DeployGraph(checkpoint.model, checkpoint.config)(image[None]), expected, checkpoint)
    assert make_card(checkpoint).mask_offset == (0.0 if recipe.aligned else 0.5)

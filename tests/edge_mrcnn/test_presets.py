"""Presets keep their budgets, export what they trained and take any timm backbone; resnet50 trains as in
torchvision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("timm", reason="pip install 'edge-mrcnn[train]'")

from torchvision.models.detection import maskrcnn_resnet50_fpn  # noqa: E402

from edge_mrcnn.config import PRESETS, ModelConfig, TrainConfig, preset  # noqa: E402
from edge_mrcnn.export.cost import measure_cost  # noqa: E402
from edge_mrcnn.export.graph import DeployGraph  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, save_checkpoint  # noqa: E402
from edge_mrcnn.model.mask_rcnn import build_model  # noqa: E402
from edge_mrcnn.train.losses import compute_losses  # noqa: E402
from edge_mrcnn.train.task import build_optimizer, set_norm_eval  # noqa: E402

LIGHT = [name for name in PRESETS if name != "resnet50"]
BUDGETS = {"nano": (2.0, 5.0), "small": (5.2, 11.0), "base": (8.0, 12.0)}
"""Preset line to GMAC and M parameters at most, at the default input with P = 64 and D = 20."""
TIMM = ["timm:mobilenetv4_conv_small", "timm:mobilenetv4_conv_medium", "timm:efficientnet_lite0"]
SIZE = (64, 128)
TRAINING = TrainConfig(lr=0.01)


def shrink(config: ModelConfig) -> ModelConfig:
    """The same parts on a small image."""
    return config.updated(image_size_hw=SIZE, proposals=16, proposals_per_level=40, max_detections=6)


def make_batch() -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(1, *SIZE, dtype=torch.uint8)
    masks[0, 10:40, 8:50] = 1
    target = {"boxes": torch.tensor([[8.0, 10, 50, 40]]), "labels": torch.tensor([1]), "masks": masks}
    return images, [target, target]


@pytest.mark.parametrize("name", LIGHT)
def test_preset_keeps_its_budget(name: str) -> None:
    config = preset(name).updated(proposals=64, max_detections=20)
    cost = measure_cost(build_model(config, 1), config)
    macs, parameters = BUDGETS[name.split("-")[0]]
    assert cost.macs <= macs * 1e9 and cost.parameters <= parameters * 1e6


@pytest.mark.parametrize("name", LIGHT)
@torch.inference_mode()
def test_deployed_form_computes_what_the_trained_form_does(make_lively: Callable, name: str) -> None:
    config = shrink(preset(name))
    model = make_lively(config, 2)
    graph = DeployGraph(model, config)
    x = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    for one, other in zip(model.backbone(x).values(), graph.pyramid(x).values(), strict=True):
        torch.testing.assert_close(other, one, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("backbone", TIMM)
def test_timm_backbone_learns(backbone: str) -> None:
    torch.manual_seed(0)
    config = shrink(preset("nano").updated(backbone=backbone, fpn_channels=16))
    model = build_model(config, 2).train()
    losses, _ = compute_losses(model, *make_batch())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    build_optimizer(model, TRAINING).step()
    changed = [not torch.equal(p, before[name]) for name, p in model.named_parameters()]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize("backbone", TIMM[:1])
def test_timm_backbone_is_exported(make_lively: Callable, tmp_path: Path, backbone: str) -> None:
    pytest.importorskip("onnxscript", reason="pip install 'edge-mrcnn[export]'")
    pytest.importorskip("onnxruntime", reason="pip install 'edge-mrcnn[onnx]'")
    from edge_mrcnn.export.pipeline import export
    from edge_mrcnn.export.settings import ExportConfig

    config = shrink(preset("nano").updated(backbone=backbone, fpn_channels=16))
    checkpoint = Checkpoint(
        model=make_lively(config, 2), config=config, classes=("square", "disc"), category_ids=(3, 7)
    )
    save_checkpoint(tmp_path / "timm.pt", checkpoint)
    (path,) = export(tmp_path / "timm.pt", tmp_path, ExportConfig(targets=("onnx",)))  # verifies, or raises
    assert path.name == "timm.onnx"


def seed_sampling(*_: object) -> None:
    """Anchors and regions are sampled at random; torchvision's transform draws a number too."""
    torch.manual_seed(0)


def test_resnet50_learns_as_torchvisions_own(make_lively: Callable) -> None:
    config = preset("resnet50").updated(image_size_hw=SIZE)
    theirs = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=128
    ).train()
    theirs.load_state_dict(make_lively(config, 2).state_dict())
    ours = build_model(config, 2).train()
    ours.load_state_dict(theirs.state_dict())
    for model in (theirs, ours):
        set_norm_eval(model)  # statistics of two small images would magnify the last bit of a pixel
        model.rpn.register_forward_pre_hook(seed_sampling)
    images, targets = make_batch()
    expected = theirs(list(images / 255), [{**t} for t in targets])
    found, _ = compute_losses(ours, images, targets)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)

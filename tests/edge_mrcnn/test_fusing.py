"""Parts with several branches are fused into one layer each, with the same outputs."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from torch import nn  # noqa: E402

from edge_mrcnn.model.backbones import build_backbone  # noqa: E402
from edge_mrcnn.model.fusing import find_origins, fused  # noqa: E402

BRANCHED = {  # backbone -> convolutions while it trains, and fused
    "repvgg_lite": (16, 8),
    "timm:repvgg_a0": (44, 22),
    "timm:mobileone_s0": (191, 43),
}


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}


def lively(name: str) -> nn.Module:
    """A backbone whose norms do something, in eval mode."""
    torch.manual_seed(0)
    backbone = build_backbone(name).eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)
            layer.running_mean.normal_(std=0.1)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    return backbone


@torch.no_grad()
def assert_same_maps(model: nn.Module, other: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64)
    for exact, found in zip(model(image), other(image), strict=True):
        scale = exact.abs().max()
        torch.testing.assert_close(found / scale, exact / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BRANCHED)
def test_fused_backbone_gives_the_same_maps_with_fewer_layers(name: str) -> None:
    backbone = lively(name)
    deployed = fused(backbone)
    assert (len(convolutions(backbone)), len(convolutions(deployed))) == BRANCHED[name]
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in deployed.modules())
    assert_same_maps(backbone, deployed)


@pytest.mark.parametrize("name", ["timm:fastvit_t8", "mobilenet_v3_small"])
def test_other_backbones_stay_the_same_function(name: str) -> None:
    backbone = lively(name)
    assert_same_maps(backbone, fused(backbone))


@pytest.mark.parametrize("name", BRANCHED)
def test_each_fused_layer_stands_for_a_branch_of_its_shape(name: str) -> None:
    backbone = build_backbone(name)
    deployed = fused(backbone)
    origins = find_origins(backbone, deployed)
    before, after = convolutions(backbone), convolutions(deployed)
    for layer, branch in origins.items():
        assert before[branch].weight.shape == after[layer].weight.shape
    assert len(set(origins.values())) == len(origins)
    assert set(after) == set(origins) | (set(after) & set(before))

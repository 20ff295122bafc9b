"""ResNet (arXiv 1512.03385) from torchvision."""

from __future__ import annotations

import torchvision
from torch import nn

from edge_mrcnn.model.backbones.staged import StagedBackbone, split_stages

_PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_ENDS = (4, 5, 6, 7, 8)


def _headless(net: nn.Module, channels: tuple[int, ...]) -> StagedBackbone:
    del net.fc, net.avgpool
    return StagedBackbone(net, _PARTS, _ENDS, channels)


def resnet18(pretrained: bool) -> StagedBackbone:
    """11.2 M parameters, dense 3x3 convolutions and ReLU: slow in FP32, fast in INT8."""
    return _headless(torchvision.models.resnet18(weights="IMAGENET1K_V1" if pretrained else None), (128, 256, 512))


def resnet50(pretrained: bool) -> StagedBackbone:
    """23.5 M parameters."""
    return _headless(torchvision.models.resnet50(weights="IMAGENET1K_V2" if pretrained else None), (512, 1024, 2048))


def resnet101(pretrained: bool) -> StagedBackbone:
    """42.5 M parameters."""
    return _headless(torchvision.models.resnet101(weights="IMAGENET1K_V2" if pretrained else None), (512, 1024, 2048))


def stages_of_body(body: nn.Module) -> list[nn.ModuleList]:
    """The stages of the ResNet inside torchvision's own Mask R-CNN, as `Backbone.stages` gives them."""
    return split_stages([body.get_submodule(name) for name in _PARTS], _ENDS)

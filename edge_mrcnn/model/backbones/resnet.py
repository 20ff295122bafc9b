"""ResNet (arXiv 1512.03385) from torchvision."""

from __future__ import annotations

import torchvision
from torch import nn

from edge_mrcnn.model.backbones.staged import StagedBackbone

_STAGES = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


def _headless(net: nn.Module, channels: tuple[int, ...]) -> StagedBackbone:
    del net.fc, net.avgpool
    return StagedBackbone(net, _STAGES, (5, 6, 7), channels)


def resnet18(pretrained: bool) -> StagedBackbone:
    """11.2 M parameters, dense 3x3 convolutions and ReLU: slow in FP32, quick in INT8."""
    return _headless(torchvision.models.resnet18(weights="IMAGENET1K_V1" if pretrained else None), (128, 256, 512))


def resnet50(pretrained: bool) -> StagedBackbone:
    """23.5 M parameters."""
    return _headless(torchvision.models.resnet50(weights="IMAGENET1K_V2" if pretrained else None), (512, 1024, 2048))

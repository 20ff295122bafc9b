"""ShuffleNetV2 (arXiv 1807.11164) from torchvision."""

from __future__ import annotations

import torchvision
from torch import nn

from edge_mrcnn.model.backbones.staged import StagedBackbone


def shufflenet_v2_x1_0(pretrained: bool) -> StagedBackbone:
    """Without its last 1x1 convolution: 0.78 M parameters."""
    net = torchvision.models.shufflenet_v2_x1_0(weights="IMAGENET1K_V1" if pretrained else None)
    del net.conv5, net.fc
    parts = ("conv1", "maxpool", "stage2", "stage3", "stage4")
    # Only a pooling layer leads to stride 4, so that stage is empty.
    backbone = StagedBackbone(net, parts, (2, 2, 3, 4, 5), (116, 232, 464))
    backbone.float_layers = ("conv1",)
    return backbone


def shufflenet_v2_x1_0_leaky(pretrained: bool) -> StagedBackbone:
    """The same with LeakyReLU(0.1), as trained on COCO by the NanoDet project."""
    backbone = shufflenet_v2_x1_0(pretrained)
    _replace_relu(backbone)
    return backbone


def _replace_relu(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.ReLU):
            setattr(module, name, nn.LeakyReLU(0.1, inplace=True))
        else:
            _replace_relu(child)

"""A plain dense 3x3 ReLU backbone in RepVGG form (arXiv 2101.03697), narrow enough for edge devices.

In training, each block is the sum of a 3x3, a 1x1 and an identity branch, each with BatchNorm; `fuse` folds them into
one 3x3 convolution. INT8 kernels are fastest for dense 3x3 with ReLU: such a network with 2.6 times the MACs of
MobileNetV3 takes less than half its INT8 time. Its images are only divided by 255, so that the first convolution
multiplies the image's bytes directly, without rounding.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from edge_mrcnn.model.backbones.staged import StagedBackbone


class RepVGGBlock(nn.Module):
    """relu(bn(conv3x3(x)) + bn(conv1x1(x)) [+ bn(x)]), section 3.2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.identity = nn.BatchNorm2d(inputs) if inputs == outputs and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = self.bn3(self.conv3(x)) + self.bn1(self.conv1(x))
        if self.identity is not None:
            y = y + self.identity(x)
        return F.relu(y)

    def fuse(self) -> nn.Sequential:
        """The same function as one convolution and ReLU, section 3.3."""
        weight3, bias3 = _folded(self.conv3.weight, self.bn3)
        weight1, bias1 = _folded(self.conv1.weight, self.bn1)
        weight, bias = weight3 + F.pad(weight1, [1, 1, 1, 1]), bias3 + bias1
        if self.identity is not None:
            eye = torch.eye(weight.shape[0], device=weight.device)[:, :, None, None]
            weight0, bias0 = _folded(eye, self.identity)
            weight, bias = weight + F.pad(weight0, [1, 1, 1, 1]), bias + bias0
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, self.conv3.stride[0], 1)
        conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        return nn.Sequential(conv, nn.ReLU())


def _folded(weight: Tensor, bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, var = bn.running_mean, bn.running_var
    assert mean is not None and var is not None  # every BatchNorm here tracks its statistics
    return fuse_conv_bn_weights(weight, None, mean, var, bn.eps, bn.weight, bn.bias)


def repvgg_lite(pretrained: bool) -> StagedBackbone:
    """Widths 32-48-96-192-256 at strides 2-4-8-16-32: 1.41 M parameters after fusing.

    There are no published weights for it, so `pretrained` has no effect.
    """
    return _stack((32, 48, 96, 192, 256))


def repvgg_deep(pretrained: bool) -> StagedBackbone:
    """Widths 32-48-96-128-256 with four blocks at stride 16 and three at 32: 2.17 M parameters after fusing.

    It has about the multiply-accumulates of `repvgg_lite`. The receptive field of its coarsest map is 303 pixels
    instead of 143, as large as a person who fills an input of 320 px.
    """
    return _stack((32, 48, 96, 128, 256), (1, 1, 2, 4, 3))


def repvgg_wide(pretrained: bool) -> StagedBackbone:
    """Widths 40-64-128-256-384: 2.61 M parameters after fusing; no published weights either."""
    return _stack((40, 64, 128, 256, 384))


def _stack(widths: tuple[int, ...], depths: tuple[int, ...] = (1, 1, 2, 3, 1)) -> StagedBackbone:
    """One stage for each stride from 2 to 32; the first block of each halves the map."""
    net = nn.Module()
    for index, ((inputs, outputs), depth) in enumerate(zip(pairwise((3, *widths)), depths, strict=True)):
        blocks = [RepVGGBlock(inputs, outputs, 2), *(RepVGGBlock(outputs, outputs, 1) for _ in range(depth - 1))]
        net.add_module(f"stage{index}", nn.Sequential(*blocks))
    backbone = StagedBackbone(net, [f"stage{i}" for i in range(5)], (1, 2, 3, 4, 5), widths[2:])
    backbone.image_mean, backbone.image_std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return backbone

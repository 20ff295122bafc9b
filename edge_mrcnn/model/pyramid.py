"""Backbone and feature pyramid as one module, in torchvision's form (arXiv 1612.03144)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool


class PyramidBackbone(nn.Module):
    """A backbone followed by a light FPN with BatchNorm, on strides 8, 16, 32 and 64.

    Torchvision's MaskRCNN asks for `out_channels` and for maps by name: "0", "1", "2" and "pool".
    """

    def __init__(self, body: nn.Module, channels: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(
            list(channels), out_channels, extra_blocks=LastLevelMaxPool(), norm_layer=nn.BatchNorm2d
        )
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(N, 3, H, W) to maps (N, out_channels, H / s, W / s) for s = 8, 16, 32, 64."""
        maps: OrderedDict[str, Tensor] = self.fpn(OrderedDict((str(i), m) for i, m in enumerate(self.body(x))))
        return maps

"""Backbone and feature pyramid as one module, in torchvision's form (arXiv 1612.03144)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock


class PyramidBackbone(nn.Module):
    """A backbone followed by a light FPN with BatchNorm, on strides 8, 16, 32, 64 and, with more levels, 128, ...

    Torchvision's MaskRCNN requires `out_channels` and maps by name: "0", "1", "2", "pool", "pool2", ...
    """

    def __init__(self, body: nn.Module, channels: tuple[int, ...], out_channels: int, levels: int = 4) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(
            list(channels), out_channels, extra_blocks=CoarseLevels(levels - len(channels)), norm_layer=nn.BatchNorm2d
        )
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(N, 3, H, W) to maps (N, out_channels, H / s, W / s) for s = 8, 16, 32, 64, ..."""
        maps: OrderedDict[str, Tensor] = self.fpn(OrderedDict((str(i), m) for i, m in enumerate(self.body(x))))
        return maps


class CoarseLevels(ExtraFPNBlock):
    """Every second pixel of the coarsest map, repeated for further levels; torchvision's `LastLevelMaxPool` does it
    once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append maps at twice, four times, ... the coarsest stride, rounded up."""
        for number in range(1, self.count + 1):
            results.append(F.max_pool2d(results[-1], kernel_size=1, stride=2))
            names.append("pool" if number == 1 else f"pool{number}")
        return results, names

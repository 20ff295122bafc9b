"""Any timm model that can hand out its feature maps."""

from __future__ import annotations

import timm
from torch import Tensor, nn

from edge_mrcnn.model.backbones import Backbone
from runtimes.errors import UsageError

_STRIDES = (8, 16, 32)


class TimmBackbone(Backbone):
    """A timm model with `features_only`, reduced to strides 8, 16 and 32."""

    def __init__(self, net: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.net = net
        self.channels = channels
        self.strides = _STRIDES

    def stages(self) -> list[nn.Module]:
        """timm's parts in order of depth."""
        return list(self.net.children())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to a list of (N, channels[i], H / strides[i], W / strides[i])."""
        return list(self.net(x))


def timm_backbone(name: str, pretrained: bool) -> TimmBackbone:
    """Build timm model `name`; its published weights are downloaded by timm's own loader."""
    try:
        probe = timm.create_model(name, features_only=True, pretrained=False)
        reductions = probe.feature_info.reduction()
        indices = [reductions.index(stride) for stride in _STRIDES]
    except (RuntimeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"timm:{name} has no features at strides 8, 16 and 32 ({str(error)[:80]})") from error
    net = timm.create_model(name, features_only=True, pretrained=pretrained, out_indices=indices)
    return TimmBackbone(net, tuple(net.feature_info.channels()))

"""Any timm model with feature maps."""

from __future__ import annotations

import timm
from torch import Tensor, nn

from edge_mrcnn.model.backbones import Backbone
from edge_mrcnn.model.backbones.staged import split_stages
from runtimes.errors import UsageError

_STRIDES = (8, 16, 32)


class TimmBackbone(Backbone):
    """A timm model with `features_only`, reduced to strides 8, 16 and 32."""

    def __init__(self, net: nn.Module, channels: tuple[int, ...], ends: dict[int, str]) -> None:
        """

        Args:
            net: The model.
            channels: Channels of its maps.
            ends: Stride -> name of the last part before its maps.
        """
        super().__init__()
        self.net = net
        self.channels = channels
        self.strides = _STRIDES
        self.ends = ends
        published = getattr(net, "pretrained_cfg", None) or {}
        self.image_mean = tuple(published.get("mean", self.image_mean))
        self.image_std = tuple(published.get("std", self.image_std))

    def stages(self) -> list[nn.ModuleList]:
        """The stem, then the stages up to strides 4, 8, 16 and 32."""
        parts = _list_parts(self.net)
        names = list(parts)
        end = _end_of_stem(parts, self.ends.get(2))
        ends = [end]
        for stride in (4, 8, 16):
            last = self.ends.get(stride)
            if last in names:
                end = _past_norms(parts, names.index(last) + 1)
            ends.append(end)
        ends.append(len(names))
        return split_stages(list(parts.values()), ends)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to a list of (N, channels[i], H / strides[i], W / strides[i])."""
        return list(self.net(x))


def timm_backbone(name: str, pretrained: bool) -> TimmBackbone:
    """Build timm model `name`; timm's own loader downloads its published weights."""
    try:
        probe = timm.create_model(name, features_only=True, pretrained=False)
        reductions = probe.feature_info.reduction()
        indices = [reductions.index(stride) for stride in _STRIDES]
    except (RuntimeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"timm:{name} has no features at strides 8, 16 and 32 ({str(error)[:80]})") from error
    modules = probe.feature_info.module_name()
    ends = dict(zip(reductions, modules, strict=True))
    net = timm.create_model(name, features_only=True, pretrained=pretrained, out_indices=indices)
    return TimmBackbone(net, tuple(net.feature_info.channels()), ends)


def _list_parts(net: nn.Module) -> dict[str, nn.Module]:
    """Name -> part, in order of execution; timm's `blocks` are split up."""
    parts: dict[str, nn.Module] = {}
    for name, child in net.named_children():
        if name == "blocks":
            parts |= {f"blocks.{index}": block for index, block in child.named_children()}
        else:
            parts[_dotted(name)] = child
    return parts


def _dotted(name: str) -> str:
    """ "stages_0" to "stages.0": timm flattens names that have a number."""
    head, _, number = name.rpartition("_")
    return f"{head}.{number}" if head and number.isdecimal() else name


def _end_of_stem(parts: dict[str, nn.Module], last: str | None) -> int:
    """Number of leading parts in the stem: those up to the maps of stride 2, or timm's own stem."""
    names = list(parts)
    if last in names:
        return _past_norms(parts, names.index(last) + 1)
    called_stem = [name for name in names if name.split(".")[0] == "stem"]
    return max(1, len(called_stem))


def _past_norms(parts: dict[str, nn.Module], end: int) -> int:
    """The position after the norms, activations and poolings that follow a part, which belong to it."""
    for part in list(parts.values())[end:]:
        if any(parameter.dim() > 1 for parameter in part.parameters()):
            break
        end += 1
    return end

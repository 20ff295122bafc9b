"""A backbone made of consecutive parts, the last of which each give one feature map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edge_mrcnn.model.backbones import Backbone


class StagedBackbone(Backbone):
    """Parts of a classifier run one after the other; the maps after some of them are handed out.

    The parts stay inside `net`, whose own state-dict keys are kept, so published weights load unchanged.
    """

    def __init__(self, net: nn.Module, parts: Sequence[str], ends: Sequence[int], channels: Sequence[int]) -> None:
        """
        Args:
            net: Module that holds the parts.
            parts: Dotted names of the parts inside `net`, in order of execution.
            ends: How many parts there are up to the end of the stem, and of what leads to strides 4, 8, 16 and 32;
                behind the last three a map is handed out.
            channels: Channels of those maps.
        """
        super().__init__()
        self.net = net
        self.part_names = tuple(parts)
        self.ends = tuple(ends)
        self.channels = tuple(channels)
        self.strides = (8, 16, 32)

    def parts(self) -> list[nn.Module]:
        """The parts, in order of execution."""
        return [self.net.get_submodule(name) for name in self.part_names]

    def stages(self) -> list[nn.ModuleList]:
        """The stem, then the parts that lead to strides 4, 8, 16 and 32."""
        return split_stages(self.parts(), self.ends)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to a list of (N, channels[i], H / strides[i], W / strides[i])."""
        maps = []
        for count, part in enumerate(self.parts(), start=1):
            x = part(x)
            if count in self.ends[-3:]:
                maps.append(x)
        return maps


def split_stages(parts: Sequence[nn.Module], ends: Sequence[int]) -> list[nn.ModuleList]:
    """Consecutive parts as stages; each stage ends behind so many parts."""
    begins = (0, *ends[:-1])
    return [nn.ModuleList(parts[begin:end]) for begin, end in zip(begins, ends, strict=True)]

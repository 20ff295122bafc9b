"""A backbone of consecutive parts, of which the last ones give a feature map each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edge_mrcnn.model.backbones import Backbone


class StagedBackbone(Backbone):
    """Runs the parts of a classifier one after another, and returns the maps after some of them.

    The parts stay inside `net`, which keeps its own state-dict keys, so published weights load unchanged.
    """

    def __init__(self, net: nn.Module, parts: Sequence[str], ends: Sequence[int], channels: Sequence[int]) -> None:
        """

        Args:
            net: Module with the parts.
            parts: Dotted names of the parts inside `net`, in order of execution.
            ends: Number of parts up to the end of the stem, and up to the end of each stage for strides 4, 8, 16 and
                32; a map is returned after each of the last three.
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
        """The stem, then the stages up to strides 4, 8, 16 and 32."""
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
    """Consecutive parts as stages; each stage ends after the given number of parts."""
    begins = (0, *ends[:-1])
    return [nn.ModuleList(parts[begin:end]) for begin, end in zip(begins, ends, strict=True)]

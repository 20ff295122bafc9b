"""A backbone made of consecutive parts, the last of which each give one feature map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from edge_mrcnn.model.backbones import Backbone


class StagedBackbone(Backbone):
    """Parts of a classifier run one after the other; the maps after some of them are handed out.

    The parts stay inside `net`, whose own state-dict keys are kept, so published weights load unchanged.
    """

    def __init__(self, net: nn.Module, stages: Sequence[str], outputs: Sequence[int], channels: Sequence[int]) -> None:
        """
        Args:
            net: Module that holds the parts.
            stages: Dotted names of the parts inside `net`, in order of execution.
            outputs: Indices into `stages` after which a map is handed out, at strides 8, 16, 32.
            channels: Channels of those maps.
        """
        super().__init__()
        self.net = net
        self.stage_names = tuple(stages)
        self.outputs = tuple(outputs)
        self.channels = tuple(channels)
        self.strides = (8, 16, 32)

    def stages(self) -> list[nn.Module]:
        """The parts, in order of execution."""
        return [self.net.get_submodule(name) for name in self.stage_names]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) to a list of (N, channels[i], H / strides[i], W / strides[i])."""
        maps = []
        for index, stage in enumerate(self.stages()):
            x = stage(x)
            if index in self.outputs:
                maps.append(x)
        return maps

"""A differentiable forward pass of fixed shape through every learned layer of a Mask R-CNN.

Dependency analysis has to trace the whole network, but RoIAlign and NMS are in its middle. Pooling each map to the size
of a RoI connects the same channels in the same order, which is enough for the analysis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import shufflenetv2
from torchvision.models.detection import MaskRCNN


class Surrogate(nn.Module):
    """Shares the model's modules. Its outputs have no meaning, but their dependencies are those of the model."""

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.model = model
        self.box_size = model.roi_heads.box_roi_pool.output_size
        self.mask_size = model.roi_heads.mask_roi_pool.output_size

    def forward(self, x: Tensor) -> list[Tensor]:
        """(1, 3, H, W) float32 to the outputs of all predictors."""
        model, heads = self.model, self.model.roi_heads
        maps = list(model.backbone(x).values())
        objectness, deltas = model.rpn.head(maps)
        features = heads.box_head(self._pool(maps, self.box_size))
        masks = heads.mask_predictor(heads.mask_head(self._pool(maps, self.mask_size)))
        predictor = heads.box_predictor
        return [*objectness, *deltas, predictor.cls_score(features), predictor.bbox_pred(features), masks]

    @staticmethod
    def _pool(maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        return torch.stack([F.adaptive_avg_pool2d(level, size) for level in maps]).sum(0)


def predictors(model: MaskRCNN) -> list[nn.Module]:
    """Layers whose outputs have a fixed meaning, so that none of them may be removed."""
    heads = model.roi_heads
    return [
        model.rpn.head.cls_logits,
        model.rpn.head.bbox_pred,
        heads.box_predictor.cls_score,
        heads.box_predictor.bbox_pred,
        heads.mask_predictor.mask_fcn_logits,
    ]


def shuffled_layers(model: MaskRCNN) -> list[nn.Module]:
    """Convolutions whose outputs pass through a channel shuffle.

    A shuffle depends on the position of channels, so these keep all of theirs; a ShuffleNet unit is pruned at its inner
    width.
    """
    units = (m for m in model.modules() if isinstance(m, shufflenetv2.InvertedResidual))
    branches = [branch for unit in units for branch in (unit.branch1, unit.branch2) if len(branch)]
    return [[m for m in branch if isinstance(m, nn.Conv2d)][-1] for branch in branches]


@contextmanager
def without_shuffles() -> Iterator[None]:
    """Trace ShuffleNet units in a form without split and shuffle; valid if `shuffled_layers` are not pruned."""
    unit = shufflenetv2.InvertedResidual
    shuffled_forward = unit.forward
    unit.forward = _unit_without_shuffle
    try:
        yield
    finally:
        unit.forward = shuffled_forward


def _unit_without_shuffle(unit: shufflenetv2.InvertedResidual, x: Tensor) -> Tensor:
    if unit.stride > 1:
        return torch.cat([unit.branch1(x), unit.branch2(x)], 1)
    half = x.detach()[:, : x.shape[1] // 2]  # its channels are fixed, so nothing depends on them
    inner: Tensor = unit.branch2(half)
    return x + inner.mean()

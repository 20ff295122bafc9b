"""Lateral convolutions of a changed backbone in closed form, so that the pyramid above it starts as before.

A lateral convolution is linear, so the best approximation of the old lateral's output is a ridge regression on the new
backbone's channels. It needs no training step, and the heads above keep most of their accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.data.dataset import InstanceDataset
from edge_mrcnn.model.mask_rcnn import PAD_RGB

IMAGES = 96
"""Number of training images for the regression."""
RIDGE = 1e-3
"""Penalty on the weights, relative to the mean variance of the new backbone's channels."""


def regression_images(data: CocoData, image_size_hw: tuple[int, int]) -> Iterator[Tensor]:
    """Views of images evenly spread over the data, (1, 3, H, W) uint8 RGB each, as in training."""
    dataset = InstanceDataset(data, image_size_hw, PAD_RGB, TrainConfig())
    step = max(1, len(dataset) // IMAGES)
    for index in range(0, len(dataset), step):
        yield dataset.view(0, index)[0][None]


@torch.no_grad()
def fit_laterals(student: MaskRCNN, teacher: MaskRCNN, batches: Iterable[Tensor]) -> list[float]:
    """Set the student's lateral convolutions to approximate the teacher's outputs.

    Args:
        student: A light model with a new backbone; its pyramid and heads are the teacher's.
        teacher: The model before the change.
        batches: Images of the training data, (B, 3, H, W) uint8 RGB at the input size of both.

    Returns:
        For each level, finest first, the share of the variance of the old lateral's output that the new one explains.
    """
    blocks = student.backbone.fpn.inner_blocks
    regressions = [Regression() for _ in blocks]
    was_training = student.training
    student.eval()
    teacher.eval()
    for images in batches:
        inputs = _backbone_maps(student, images)
        outputs = _lateral_maps(teacher, images)
        for regression, x, y in zip(regressions, inputs, outputs, strict=True):
            regression.add(_pixels(x), _pixels(_resized(y, x)))
    student.train(was_training)
    for block, regression in zip(blocks, regressions, strict=True):
        _set_block(block, regression)
    return [regression.explained() for regression in regressions]


class Regression:
    """Linear least squares from C inputs to K outputs with an intercept; stores only sums."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add (N, C) inputs and their (N, K) outputs."""
        x, y = x.double(), y.double()
        parts = {"x": x.sum(0), "y": y.sum(0), "xx": x.T @ x, "xy": x.T @ y, "yy": (y * y).sum(0)}
        for name, part in parts.items():
            self.sums[name] = self.sums[name] + part if name in self.sums else part
        self.count += len(x)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Weights (K, C) and intercept (K,)."""
        mean_x, mean_y, covariance, shared, _ = self._moments()
        penalty = RIDGE * covariance.diagonal().mean() + torch.finfo(torch.float32).tiny
        ridge = penalty * torch.eye(len(covariance), dtype=covariance.dtype)
        weights = torch.linalg.solve(covariance + ridge, shared).T
        return weights, mean_y - weights @ mean_x

    def variances(self, weights: Tensor) -> Tensor:
        """Variance (K,) of the outputs of some weights (K, C)."""
        covariance = self._moments()[2]
        return ((weights @ covariance) * weights).sum(1)

    def explained(self) -> float:
        """Share of the outputs' variance that the solution explains, over all outputs together."""
        _, _, covariance, shared, variance = self._moments()
        weights, _ = self.solve()
        error = variance - 2 * (weights * shared.T).sum(1) + ((weights @ covariance) * weights).sum(1)
        return float(1 - error.sum() / variance.sum())

    def _moments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Means (C,), (K,), covariances (C, C), (C, K) and the outputs' variances (K,)."""
        mean_x = self.sums["x"] / self.count
        mean_y = self.sums["y"] / self.count
        covariance = self.sums["xx"] / self.count - torch.outer(mean_x, mean_x)
        shared = self.sums["xy"] / self.count - torch.outer(mean_x, mean_y)
        variance = self.sums["yy"] / self.count - mean_y**2
        return mean_x, mean_y, covariance, shared, variance


def _backbone_maps(model: MaskRCNN, images: Tensor) -> list[Tensor]:
    batch, _ = model.transform(images)
    return list(model.backbone.body(batch.tensors))


def _lateral_maps(model: MaskRCNN, images: Tensor) -> list[Tensor]:
    pairs = zip(model.backbone.fpn.inner_blocks, _backbone_maps(model, images), strict=True)
    return [block(one) for block, one in pairs]


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    """(B, K, h, w) resized to another map; sizes differ if strides round differently."""
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return nn.functional.interpolate(maps, like.shape[-2:], mode="bilinear", antialias=True)


def _pixels(maps: Tensor) -> Tensor:
    """(B, C, h, w) to (B * h * w, C)."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _set_block(block: nn.Module, regression: Regression) -> None:
    """A 1x1 convolution without bias and its BatchNorm: the norm reverts its own statistics, then adds the
    intercept."""
    convolution, norm = block.children()
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weights, intercept = regression.solve()
    variance = regression.variances(weights)
    mean = regression.sums["y"] / regression.count - intercept
    convolution.weight.copy_(weights[:, :, None, None])
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(intercept + mean)

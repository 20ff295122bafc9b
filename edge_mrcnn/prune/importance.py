"""Importance of channels, from data: the effect of each channel on the loss.

It is half the Fisher information of a factor on the channel: half the mean square of the derivative of one image's
detection losses with respect to that factor (Group Fisher, arXiv 2108.00708, section 3.2). To second order, this is the
increase of the loss if the channel is removed, in the same unit for all layers, so no normalisation is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.data.targets import Target
from edge_mrcnn.model.region_pool import RegionPool
from edge_mrcnn.prune.groups import ChannelGroup, input_axis
from edge_mrcnn.reference import pick_device
from edge_mrcnn.train.losses import compute_losses
from edge_mrcnn.train.task import Batch, set_norm_eval

Importance = dict[str, Tensor]
"""Group -> (width,) float32: the increase of the loss if each channel is removed."""


def measure_importance(
    model: MaskRCNN,
    groups: Sequence[ChannelGroup],
    batches: Iterable[Batch],
    images: int,
    *,
    seed: int = 0,
    device: str = "auto",
) -> Importance:
    """Rank the channels on some training images; the weights are not changed.

    Args:
        model: A trained model.
        groups: Groups of the model.
        batches: Training data.
        images: Number of images to use.
        seed: Random seed of the sampled proposals and regions.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        The increase of the loss if each channel is removed.
    """
    squares = {group.name: torch.zeros(group.width) for group in groups}
    where = pick_device(device)
    torch.manual_seed(seed)
    _make_ready(model.to(where))
    count = 0
    for image, target in _first_images(batches, images):
        model.zero_grad(set_to_none=True)
        losses, _ = compute_losses(model, image.to(where), [{name: value.to(where) for name, value in target.items()}])
        torch.stack(list(losses.values())).sum().backward()
        for group in groups:
            squares[group.name] += _derivative(model, group).square()
        count += 1
    model.zero_grad(set_to_none=True)
    model.cpu().eval()
    return {name: 0.5 * total / max(1, count) for name, total in squares.items()}


def _first_images(batches: Iterable[Batch], count: int) -> Iterator[tuple[Tensor, Target]]:
    """The first images one by one."""
    for images, targets in batches:
        for image, target in zip(images, targets, strict=True):
            if count == 0:
                return
            count -= 1
            yield image[None], target


def _make_ready(model: MaskRCNN) -> None:
    model.train().requires_grad_(True)
    set_norm_eval(model)
    heads = model.roi_heads
    heads.box_roi_pool, heads.mask_roi_pool = map(RegionPool.like, (heads.box_roi_pool, heads.mask_roi_pool))


def _derivative(model: nn.Module, group: ChannelGroup) -> Tensor:
    """(width,) derivative of the loss with respect to a factor on each channel, at all its readers."""
    total = torch.zeros(group.width)
    for name, links in group.readers.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        if weight.grad is None:
            continue
        axis = input_axis(model.get_submodule(name))
        products = (weight.detach() * weight.grad).transpose(0, axis).flatten(1).sum(1)
        total.index_add_(0, links.channels, products[links.features].cpu())
    return total

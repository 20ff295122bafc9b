"""Structured channel pruning: whole channels go, and with them everything that depends on them.

Groups of coupled layers are found by torch-pruning's dependency graph (DepGraph, arXiv 2301.12900). Which
channels of a group matter least is asked of the data: first-order Taylor on the detection losses
(arXiv 1906.10771).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch_pruning as tp
from torch import nn
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.prune.surrogate import Surrogate, predictors, shuffled_layers, without_shuffles
from edge_mrcnn.train.task import Batch, set_norm_eval
from runtimes.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """How much to remove."""

    ratio: float = 0.3
    """Share of channels removed from each group, in [0, 1)."""
    round_to: int = 8
    """Channel counts stay a multiple of this, which INT8 kernels prefer."""
    batches: int = 16
    """Training batches whose gradients tell which channels matter."""
    seed: int = 0
    """Seed of the proposals and RoIs that the losses are sampled from."""

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise UsageError(f"--ratio {self.ratio}: expected at least 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one pass through all learned layers costs, heads counted for one RoI."""

    macs: float
    """Multiply-accumulates."""
    parameters: int
    """Weights."""


def prune(checkpoint: Checkpoint, batches: Iterable[Batch], config: PruneConfig) -> Checkpoint:
    """Remove channels; the model is changed in place and not trained afterwards.

    Args:
        checkpoint: A trained model.
        batches: Training data for the importance of channels.
        config: How much to remove.

    Returns:
        The same model, narrower, with its provenance extended.
    """
    model = checkpoint.model
    before = measure_cost(checkpoint)
    if config.ratio:
        torch.manual_seed(config.seed)
        _accumulate_gradients(model, batches, config.batches)
        _remove_channels(checkpoint, config)
    after = measure_cost(checkpoint)
    record = {
        "ratio": config.ratio,
        "parameters": [before.parameters, after.parameters],
        "macs": [before.macs, after.macs],
    }
    return replace(checkpoint, model=model.eval(), training={**checkpoint.training, "pruned": record})


def measure_cost(checkpoint: Checkpoint) -> Cost:
    """MACs and parameters of the surrogate pass."""
    model = checkpoint.model.eval()
    macs, parameters = tp.utils.count_ops_and_params(Surrogate(model), _blank(checkpoint))
    return Cost(macs=float(macs), parameters=int(parameters))


def _blank(checkpoint: Checkpoint) -> torch.Tensor:
    return torch.zeros(1, 3, *checkpoint.config.image_size_hw)


def _accumulate_gradients(model: MaskRCNN, batches: Iterable[Batch], count: int) -> None:
    model.train()
    set_norm_eval(model)
    model.zero_grad()
    model.requires_grad_(True)
    for _, (images, targets) in zip(range(count), batches, strict=False):
        torch.stack(list(model(images, targets).values())).sum().backward()
    model.eval()


def _remove_channels(checkpoint: Checkpoint, config: PruneConfig) -> None:
    model = checkpoint.model
    fixed = [*predictors(model), *shuffled_layers(model)]
    with warnings.catch_warnings(), without_shuffles():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            Surrogate(model), _blank(checkpoint), tp.importance.GroupTaylorImportance(),
            pruning_ratio=config.ratio, round_to=config.round_to, ignored_layers=fixed,
            in_channel_groups={}, out_channel_groups={}, channel_groups={},  # their defaults are shared objects
        )  # fmt: skip
        pruner.step()
    model.zero_grad(set_to_none=True)
    layer = next(m for m in model.backbone.fpn.layer_blocks[0].modules() if isinstance(m, nn.Conv2d))
    model.backbone.out_channels = layer.out_channels


def training_batches(data: CocoData, checkpoint: Checkpoint, batch: int, seed: int) -> Iterable[Batch]:
    """Batches of plain training views for `prune`."""
    from edge_mrcnn.config import TrainConfig
    from edge_mrcnn.data.dataset import InstanceDataset
    from edge_mrcnn.data.loader import train_loader
    from edge_mrcnn.model.mask_rcnn import PAD_RGB

    settings = TrainConfig(batch=batch, seed=seed, workers=0)
    return train_loader(InstanceDataset(data, checkpoint.config.image_size_hw, PAD_RGB, settings))

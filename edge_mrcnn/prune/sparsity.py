"""Single weights set to zero. This shrinks compressed files; runtimes that multiply by zero are not faster.

Two patterns: the smallest weights of each layer, anywhere; or two of any four consecutive inputs, as the sparse kernels
of NVIDIA GPUs require (arXiv 2104.08378). The zeros stay zero in further training.
"""

from __future__ import annotations

import copy
import zlib
from dataclasses import dataclass, replace
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.prune.groups import input_axis, is_depthwise
from edge_mrcnn.prune.surrogate import predictors

FEW_INPUTS = 4
"""Minimum number of inputs of a pruned layer; layers with fewer, such as that of the image, keep all weights."""


@dataclass(frozen=True)
class Pattern:
    """Which weights are set to zero."""

    share: float
    """Share of each layer's weights, in [0, 1)."""
    is_structured: bool
    """Whether it is two of any four inputs."""

    @classmethod
    def named(cls, text: str) -> Pattern:
        """Parse "2:4" or a share such as "0.5"."""
        if text == "2:4":
            return cls(0.5, is_structured=True)
        return cls(float(text), is_structured=False)

    @property
    def name(self) -> str:
        """The pattern as text, as in the option."""
        return "2:4" if self.is_structured else f"{self.share:g}"

    def kept(self, weight: Tensor) -> Tensor:
        """Boolean mask of the weights that stay, (inputs, ...)."""
        if self.is_structured:
            return _two_of_four(weight)
        return _largest(weight, 1 - self.share)


def sparsify(checkpoint: Checkpoint, pattern: Pattern) -> Checkpoint:
    """Set weights to zero.

    Args:
        checkpoint: A trained model; it is not changed.
        pattern: Which weights are set to zero.

    Returns:
        A model of the same widths, with "sparse" in its provenance: the pattern, the share of all weights that is
        zero, and the megabytes to which its weights compress, before and after.
    """
    model = copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        for layer in sparse_layers(model):
            inputs_first = layer.weight.transpose(0, input_axis(layer))
            inputs_first.mul_(pattern.kept(inputs_first))
    record = {
        "pattern": pattern.name,
        "share": _zero_share(model),
        "compressed_mb": [compressed_mb(checkpoint.model), compressed_mb(model)],
    }
    return replace(checkpoint, model=model, training={**checkpoint.training, "sparse": record})


def _zero_share(model: nn.Module) -> float:
    """Share of all parameters that is zero."""
    zeros = count = 0
    for parameter in model.parameters():
        zeros += int((parameter == 0).sum())
        count += parameter.numel()
    return zeros / count


def sparse_layers(model: Any) -> list[Any]:
    """The layers that are pruned: not those that read the image or compute the outputs, nor depthwise ones."""
    predicting = set(predictors(model))
    layers = []
    for module in model.modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            continue
        has_inputs_to_spare = module.weight.shape[input_axis(module)] >= FEW_INPUTS
        if has_inputs_to_spare and module not in predicting and not is_depthwise(module):
            layers.append(module)
    return layers


def compressed_mb(model: nn.Module) -> float:
    """Megabytes of the weights in FP32 compressed by zlib, as in a zip or a package."""
    weights = b"".join(p.detach().cpu().numpy().tobytes() for p in model.parameters())
    return len(zlib.compress(weights, 6)) / 1e6


class KeepZeros(Callback):
    """Trains a model without changing the weights that were zero at the start."""

    def __init__(self, model: Any) -> None:
        self._alive = [(layer.weight, layer.weight != 0) for layer in sparse_layers(model)]

    def on_before_optimizer_step(self, trainer: lightning.Trainer, task: Any, optimizer: torch.optim.Optimizer) -> None:
        """Reset gradient and optimizer state, so that the zeros stay zero."""
        for weight, alive in self._alive:
            if weight.grad is not None:
                weight.grad.mul_(alive.to(weight.device))


def _largest(weight: Tensor, share: float) -> Tensor:
    """Boolean mask of the largest weights."""
    count = round(share * weight.numel())
    largest = weight.abs().flatten().topk(count).indices
    kept = torch.zeros(weight.numel(), dtype=torch.bool)
    kept[largest] = True
    return kept.view(weight.shape)


def _two_of_four(weight: Tensor) -> Tensor:
    """Boolean mask of the two largest of any four consecutive inputs; remaining inputs stay.

    Args:
        weight: (inputs, ...).
    """
    whole = len(weight) // 4 * 4
    fours = weight[:whole].abs().unflatten(0, (-1, 4))
    smallest = fours.topk(2, dim=1, largest=False).indices
    is_large = torch.ones(fours.shape, dtype=torch.bool).scatter(1, smallest, False)
    kept = torch.ones(weight.shape, dtype=torch.bool)
    kept[:whole] = is_large.flatten(0, 1)
    return kept

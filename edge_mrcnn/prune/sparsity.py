"""Single weights set to zero, which changes what a file compresses to and, on runtimes that multiply by zero, no more.

Two patterns: the smallest weights of each layer, wherever they are; and two of any four inputs in a row, which is what
the sparse kernels of NVIDIA GPUs take (arXiv 2104.08378). The zeros stay zero while the model is trained on.
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
"""Layers with fewer inputs, such as that of the image, keep all weights."""


@dataclass(frozen=True)
class Pattern:
    """Which weights go."""

    share: float
    """Of each layer's weights, in [0, 1)."""
    is_structured: bool
    """Whether two of any four inputs go."""

    @classmethod
    def named(cls, text: str) -> Pattern:
        """Of "2:4" or a share such as "0.5"."""
        if text == "2:4":
            return cls(0.5, is_structured=True)
        return cls(float(text), is_structured=False)

    @property
    def name(self) -> str:
        """As it is asked for."""
        return "2:4" if self.is_structured else f"{self.share:g}"

    def kept(self, weight: Tensor) -> Tensor:
        """Boolean mask of the weights that stay, (inputs, ...) as they are."""
        if self.is_structured:
            return _two_of_four(weight)
        return _largest(weight, 1 - self.share)


def sparsify(checkpoint: Checkpoint, pattern: Pattern) -> Checkpoint:
    """Set weights to zero.

    Args:
        checkpoint: A trained model; it is not changed.
        pattern: Which weights go.

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
    """The layers that can spare weights: not those that read the image or give the answers, nor depthwise ones."""
    answers = set(predictors(model))
    layers = []
    for module in model.modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            continue
        has_inputs_to_spare = module.weight.shape[input_axis(module)] >= FEW_INPUTS
        if has_inputs_to_spare and module not in answers and not is_depthwise(module):
            layers.append(module)
    return layers


def compressed_mb(model: nn.Module) -> float:
    """Megabytes of the weights in FP32 behind zlib, as a zip or a package would hold them."""
    weights = b"".join(p.detach().cpu().numpy().tobytes() for p in model.parameters())
    return len(zlib.compress(weights, 6)) / 1e6


class KeepZeros(Callback):
    """Trains a model on without waking the weights that were zero when this began."""

    def __init__(self, model: Any) -> None:
        self._alive = [(layer.weight, layer.weight != 0) for layer in sparse_layers(model)]

    def on_before_optimizer_step(self, trainer: lightning.Trainer, task: Any, optimizer: torch.optim.Optimizer) -> None:
        """No gradient, no step: momentum and decay of a zero are zero."""
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
    """Boolean mask of the two largest of any four inputs in a row; inputs that are left over stay.

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

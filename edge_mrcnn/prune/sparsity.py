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
        return cls(0.5, True) if text == "2:4" else cls(float(text), False)

    @property
    def name(self) -> str:
        """As it is asked for."""
        return "2:4" if self.is_structured else f"{self.share:g}"


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
            weight = layer.weight.transpose(0, input_axis(layer))  # inputs first
            weight.mul_(_two_of_four(weight) if pattern.is_structured else _largest(weight, 1 - pattern.share))
    zeros = sum(int((p == 0).sum()) for p in model.parameters())
    record = {
        "pattern": pattern.name,
        "share": zeros / sum(p.numel() for p in model.parameters()),
        "compressed_mb": [compressed_mb(checkpoint.model), compressed_mb(model)],
    }
    return replace(checkpoint, model=model, training={**checkpoint.training, "sparse": record})


def sparse_layers(model: Any) -> list[Any]:
    """The layers that can spare weights: not those that read the image or give the answers, nor depthwise ones."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    layers = [module for module in model.modules() if isinstance(module, kinds) and not is_depthwise(module)]
    kept = set(predictors(model))
    return [m for m in layers if m not in kept and m.weight.shape[input_axis(m)] >= FEW_INPUTS]


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
    kept = torch.zeros(weight.numel(), dtype=torch.bool)
    kept[weight.abs().flatten().topk(round(share * weight.numel())).indices] = True
    return kept.view(weight.shape)


def _two_of_four(weight: Tensor) -> Tensor:
    """Boolean mask of the two largest of any four inputs in a row; inputs that are left over stay.

    Args:
        weight: (inputs, ...).
    """
    kept = torch.ones(weight.shape, dtype=torch.bool)
    whole = len(weight) // 4 * 4
    fours = weight[:whole].abs().unflatten(0, (-1, 4))
    smallest = fours.topk(2, dim=1, largest=False).indices
    kept[:whole] = torch.ones(fours.shape, dtype=torch.bool).scatter(1, smallest, False).flatten(0, 1)
    return kept

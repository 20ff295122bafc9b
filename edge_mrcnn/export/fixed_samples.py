"""RoIAlign with a fixed number of samples, for targets without adaptive sampling.

TFLite's shapes are fixed, and an adaptive number of samples is a shape that depends on the box.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from torch import nn

from edge_mrcnn.export import TARGETS, verify
from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.model.mask_rcnn import apply_inference_settings
from runtimes.model_card import ModelCard
from runtimes.parity import Tolerance, compare_outputs
from runtimes.progress import Say

SAMPLES = 2
"""Samples per bin and axis instead: torchvision's own number."""


def is_needed(target: str, checkpoint: Checkpoint) -> bool:
    """Whether a target does not support the RoIAlign of a model."""
    return TARGETS[target].is_static and checkpoint.config.roi_samples == 0


def with_fixed_samples(checkpoint: Checkpoint) -> Checkpoint:
    """A model with `SAMPLES` in place of adaptive samples, which shares the weights of the one that is given."""
    config = checkpoint.config.updated(roi_samples=SAMPLES)
    model = copy.deepcopy(checkpoint.model, memo=_tensors_of(checkpoint.model))
    apply_inference_settings(model, config)
    return replace(checkpoint, model=model, config=config)


def _tensors_of(model: nn.Module) -> dict[int, Any]:
    """Its weights and buffers as a memo of `copy.deepcopy`, which then does not copy them."""
    state = model.state_dict(keep_vars=True)
    return {id(tensor): tensor for tensor in state.values()}


def tell_cost(
    card: ModelCard, adaptive: verify.VerifyInputs, fixed: verify.VerifyInputs, target: str, say: Say
) -> None:
    """Compare both in torch on the images of the verification, and report the effect of the fixed number."""
    parity = compare_outputs(adaptive.outputs, fixed.outputs, card, Tolerance(quantile=0.5))
    kept = f"{parity.matched} of {parity.detections} detections"
    say(
        f"{target} cannot adapt the samples of RoIAlign to the size of a bin; this file takes {SAMPLES} per bin and "
        f"axis. With that change alone, torch keeps {kept}; half of them differ by less than {parity.box_px:.2g} px "
        f"and {parity.score:.2g} in score"
    )

"""Compilation of the part of a model with constant shapes: the backbone and its pyramid."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torchvision.models.detection import MaskRCNN

from runtimes.errors import one_line

log = logging.getLogger(__name__)


def compile_backbone(
    model: MaskRCNN,
    image_size_hw: tuple[int, int],
    device: torch.device,
    backend: str | Callable[..., Any] = "inductor",
) -> bool:
    """Compile backbone and pyramid in place, if that is possible here; otherwise log a warning and leave them
    unchanged.

    Args:
        model: The model to be trained.
        image_size_hw: Input size, for a test run.
        device: Device of the training.
        backend: Backend of torch.compile.

    Returns:
        Whether it is compiled.
    """
    backbone = model.backbone
    was_training = backbone.training
    backbone.to(device).compile(backend=backend)
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, *image_size_hw, device=device))
    except Exception as error:  # a missing compiler or driver, or an unsupported operator
        log.warning("--compile is not possible here (%s); continuing without it", one_line(error))
        backbone._compiled_call_impl = None
        return False
    finally:
        backbone.train(was_training)
    return True

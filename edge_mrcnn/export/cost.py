"""Cost of a model: parameters, and multiply-accumulates of one inference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.config import ModelConfig
from edge_mrcnn.export.graph import DeployGraph


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost for one image, with the maximum of P proposals and D detections."""

    parameters: int
    """Number of weights as trained."""
    macs: int
    """Multiply-accumulates of convolutions and matrix products, without RoIAlign and NMS."""


def measure_cost(model: MaskRCNN, config: ModelConfig) -> Cost:
    """Count from shapes only, in the deploy graph, so that re-parameterised blocks count as their fused form."""
    graph = DeployGraph(model, config).to("meta")
    boxes = torch.zeros(config.max_detections, 4, device="meta")
    labels = torch.zeros(config.max_detections, dtype=torch.int64, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        *_, maps = graph.detect(torch.zeros(1, *config.image_size_hw, 3, dtype=torch.uint8, device="meta"))
        graph.mask(maps, boxes, labels)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters=parameters, macs=counter.get_total_flops() // 2)

"""One TFLite file from a deploy graph, by litert-torch, with builtin operators only.

Signature `detect` takes `image` and returns boxes, scores, labels and the pyramid p0, p1, ...; signature `mask` takes
the pyramid and a fixed batch of boxes and labels and returns their masks. Both share their weights.
"""

from __future__ import annotations

import os
from pathlib import Path

import litert_torch
import torch
from torch import Tensor, nn

from edge_mrcnn.export.graph import MASK_BATCH, DeployGraph
from edge_mrcnn.export.lowering import tflite_ops
from edge_mrcnn.inspection import count_kinds, list_operators
from runtimes.errors import ModelFileError
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile
from runtimes.quiet import quiet_stderr


class DetectSignature(nn.Module):
    """`DeployGraph.detect` with named outputs."""

    def __init__(self, graph: DeployGraph) -> None:
        super().__init__()
        self.deploy = graph

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(1, H, W, 3) uint8 to D rows, unused ones with score 0, and the pyramid."""
        boxes, scores, labels, maps = self.deploy.detect(image)
        return {"boxes": boxes, "scores": scores, "labels": labels.int(), **name_maps(maps)}


class MaskSignature(nn.Module):
    """`DeployGraph.mask` with named inputs."""

    def __init__(self, graph: DeployGraph) -> None:
        super().__init__()
        self.deploy = graph

    def forward(self, boxes: Tensor, labels: Tensor, **maps: Tensor) -> dict[str, Tensor]:
        """Boxes (n, 4), labels (n,) int32 and the pyramid to masks (n, M, M)."""
        channels_first = [features.permute(0, 3, 1, 2) for features in maps.values()]
        return {"masks": self.deploy.mask(channels_first, boxes, labels)}


def write_tflite(graph: DeployGraph, card: ModelCard, path: Path) -> None:
    """Convert a deploy graph.

    Args:
        graph: The graph.
        card: Its card, which is stored in the file.
        path: File to write.

    Raises:
        ModelFileError: If the result contains an operator that is not built into TFLite.
    """
    path.write_bytes(convert(graph))
    if foreign := [kind for kind in count_kinds(list_operators(path)) if kind.startswith("CUSTOM")]:
        raise ModelFileError(f"{path}: expected builtin TFLite operators only, got {', '.join(foreign)}")
    ModelFile(path).write_card(card)


def convert(graph: DeployGraph) -> bytes:
    """The flatbuffer of a deploy graph."""
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    image = torch.zeros(1, *graph.config.image_size_hw, 3, dtype=torch.uint8)
    boxes, labels = torch.zeros(MASK_BATCH, 4), torch.zeros(MASK_BATCH, dtype=torch.int32)
    with torch.inference_mode():
        maps = name_maps(graph.detect(image)[3])
    converter = litert_torch.Converter()
    converter.signature("detect", DetectSignature(graph).eval(), sample_kwargs={"image": image})
    converter.signature("mask", MaskSignature(graph).eval(), sample_kwargs={"boxes": boxes, "labels": labels, **maps})
    with tflite_ops.lowered_operators(), quiet_stderr():
        flatbuffer: bytes = converter.convert().model_content()
    return flatbuffer


def name_maps(maps: list[Tensor]) -> dict[str, Tensor]:
    """Maps (1, C, H, W) as p0, p1, ... (1, H, W, C), TFLite's own layout."""
    return {f"p{level}": features.permute(0, 2, 3, 1) for level, features in enumerate(maps)}

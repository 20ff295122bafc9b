"""Detectron2's Mask R-CNN in a few lines, for tests: its state dict with random weights, and its detections.

The inference is written from Detectron2's sources (modeling/backbone/resnet.py, fpn.py, proposal_generator/rpn.py,
roi_heads/, poolers.py, box_regression.py) on plain functions, and knows nothing of our own modules.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, roi_align

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The differences between the tested models."""

    depth: int = 50
    classes: int = 3
    stride_in_1x1: bool = True
    format: str = "BGR"
    mean: tuple[float, ...] = (103.53, 116.28, 123.675)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    width: int = 4
    """Channels of the stem; ResNet has 64."""
    aligned: bool = True
    samples: int = 0
    proposals: int = 50
    per_level: int = 200
    detections: int = 12
    box_weights: tuple[float, ...] = field(default=(10.0, 10.0, 5.0, 5.0))

    def config(self) -> dict[str, Any]:
        """The model's part of a Detectron2 configuration."""
        pooler = {
            "POOLER_TYPE": "ROIAlignV2" if self.aligned else "ROIAlign",
            "POOLER_SAMPLING_RATIO": self.samples,
        }
        return {
            "INPUT": {"FORMAT": self.format},
            "MODEL": {
                "META_ARCHITECTURE": "GeneralizedRCNN",
                "PIXEL_MEAN": list(self.mean),
                "PIXEL_STD": list(self.std),
                "RESNETS": {"DEPTH": self.depth, "STRIDE_IN_1X1": self.stride_in_1x1, "NORM": "FrozenBN"},
                "RPN": {"PRE_NMS_TOPK_TEST": self.per_level, "POST_NMS_TOPK_TEST": self.proposals},
                "ROI_HEADS": {"NUM_CLASSES": self.classes},
                "ROI_BOX_HEAD": dict(pooler),
                "ROI_MASK_HEAD": dict(pooler),
            },
            "TEST": {"DETECTIONS_PER_IMAGE": self.detections},
        }


def class_names(recipe: Recipe) -> tuple[str, ...]:
    """Names for its classes."""
    return tuple(f"kind {number}" for number in range(recipe.classes))


def make_state(recipe: Recipe) -> dict[str, Tensor]:
    """A state dict with Detectron2's names; weights depend on their names alone, and find objects."""
    return {name: _fill(name, shape) for name, shape in _shapes(recipe).items()}


def _shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    width, pyramid, hidden, classes = recipe.width, 8, 16, recipe.classes
    shapes = _norm("backbone.bottom_up.stem.conv1", (width, 3, 7, 7))
    inputs = width
    for stage, blocks in enumerate(BLOCKS[recipe.depth]):
        middle, outputs = width << stage, 4 * width << stage
        for block in range(blocks):
            name = f"backbone.bottom_up.res{stage + 2}.{block}"
            if not block:
                shapes |= _norm(f"{name}.shortcut", (outputs, inputs, 1, 1))
            shapes |= _norm(f"{name}.conv1", (middle, inputs, 1, 1))
            shapes |= _norm(f"{name}.conv2", (middle, middle, 3, 3))
            shapes |= _norm(f"{name}.conv3", (outputs, middle, 1, 1))
            inputs = outputs
        shapes |= _biased(f"backbone.fpn_lateral{stage + 2}", (pyramid, inputs, 1, 1))
        shapes |= _biased(f"backbone.fpn_output{stage + 2}", (pyramid, pyramid, 3, 3))
    shapes |= _biased("proposal_generator.rpn_head.conv", (pyramid, pyramid, 3, 3))
    shapes |= _biased("proposal_generator.rpn_head.objectness_logits", (3, pyramid, 1, 1))
    shapes |= _biased("proposal_generator.rpn_head.anchor_deltas", (12, pyramid, 1, 1))
    shapes |= _biased("roi_heads.box_head.fc1", (hidden, pyramid * 49))
    shapes |= _biased("roi_heads.box_head.fc2", (hidden, hidden))
    shapes |= _biased("roi_heads.box_predictor.cls_score", (classes + 1, hidden))
    shapes |= _biased("roi_heads.box_predictor.bbox_pred", (4 * classes, hidden))
    for layer in range(1, 5):
        shapes |= _biased(f"roi_heads.mask_head.mask_fcn{layer}", (pyramid, pyramid, 3, 3))
    shapes |= {
        "roi_heads.mask_head.deconv.weight": (pyramid, pyramid, 2, 2),
        "roi_heads.mask_head.deconv.bias": (pyramid,),
    }
    return shapes | _biased("roi_heads.mask_head.predictor", (classes, pyramid, 1, 1))


def _norm(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    norms = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.weight": shape, **{f"{name}.norm.{part}": shape[:1] for part in norms}}


def _biased(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


SCALES = {"objectness_logits": 0.5, "anchor_deltas": 0.1, "cls_score": 0.3, "bbox_pred": 0.2, "predictor": 0.5}


def _fill(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    normal = torch.randn(shape, generator=generator)
    if name.endswith("norm.weight"):
        return 0.5 + 0.5 * torch.rand(shape, generator=generator)
    if name.endswith("running_var"):
        return 0.5 + torch.rand(shape, generator=generator)
    if name.endswith(("bias", "running_mean")):
        return 0.1 * normal
    scale = next((scale for part, scale in SCALES.items() if part in name), math.sqrt(2 / normal[0].numel()))
    scale *= 0.02 if "stem" in name else 1.0  # it sees bytes
    scale *= 0.3 if "bottom_up" in name and name.endswith("conv3.weight") else 1.0
    return scale * normal


@torch.inference_mode()
def infer(state: dict[str, Tensor], recipe: Recipe, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Detectron2's detections.

    Args:
        state: Of `make_state`.
        recipe: What the model is.
        image: (H, W, 3) uint8 RGB.

    Returns:
        boxes (n, 4) xyxy, scores (n,), labels (n,) 0-based, masks (n, 28, 28) probabilities.
    """
    channels = image.flip(2) if recipe.format == "BGR" else image
    x = (channels.float() - torch.tensor(recipe.mean)) / torch.tensor(recipe.std)
    maps = _pyramid(state, recipe, x.permute(2, 0, 1)[None])
    proposals = _propose(state, recipe, maps, image.shape[:2])
    boxes, scores, labels = _classify(state, recipe, maps[:4], proposals, image.shape[:2])
    h = _pool(maps[:4], boxes, 14, recipe)
    for layer in range(1, 5):
        h = F.relu(_conv(state, f"roi_heads.mask_head.mask_fcn{layer}", h, padding=1))
    deconv = "roi_heads.mask_head.deconv"
    h = F.relu(F.conv_transpose2d(h, state[f"{deconv}.weight"], state[f"{deconv}.bias"], stride=2))
    logits = _conv(state, "roi_heads.mask_head.predictor", h)
    return boxes, scores, labels, logits[torch.arange(len(labels)), labels].sigmoid()


def _conv(state: dict[str, Tensor], name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    y = F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding)
    if f"{name}.norm.weight" not in state:
        return y
    weight, bias, mean, var = (
        state[f"{name}.norm.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight * (var + 1e-5).rsqrt()
    return y * scale[:, None, None] + (bias - mean * scale)[:, None, None]


def _pyramid(state: dict[str, Tensor], recipe: Recipe, x: Tensor) -> list[Tensor]:
    x = F.relu(_conv(state, "backbone.bottom_up.stem.conv1", x, 2, 3))
    x = F.max_pool2d(x, 3, 2, 1)
    levels = []
    for stage, blocks in enumerate(BLOCKS[recipe.depth]):
        for block in range(blocks):
            name = f"backbone.bottom_up.res{stage + 2}.{block}"
            stride = 2 if stage and not block else 1
            first, second = (stride, 1) if recipe.stride_in_1x1 else (1, stride)
            y = F.relu(_conv(state, f"{name}.conv1", x, first))
            y = F.relu(_conv(state, f"{name}.conv2", y, second, 1))
            y = _conv(state, f"{name}.conv3", y)
            x = F.relu(y + (x if block else _conv(state, f"{name}.shortcut", x, stride)))
        levels.append(_conv(state, f"backbone.fpn_lateral{stage + 2}", x))
    for finer in (2, 1, 0):
        levels[finer] = levels[finer] + F.interpolate(levels[finer + 1], scale_factor=2.0, mode="nearest")
    maps = [_conv(state, f"backbone.fpn_output{i + 2}", level, padding=1) for i, level in enumerate(levels)]
    return [*maps, F.max_pool2d(maps[-1], 1, 2)]


def _propose(state: dict[str, Tensor], recipe: Recipe, maps: list[Tensor], size_hw: tuple[int, int]) -> Tensor:
    boxes, scores, levels = [], [], []
    for level, features in enumerate(maps):
        head = "proposal_generator.rpn_head"
        h = F.relu(_conv(state, f"{head}.conv", features, padding=1))
        logits = _conv(state, f"{head}.objectness_logits", h)[0].permute(1, 2, 0).flatten()
        deltas = _conv(state, f"{head}.anchor_deltas", h)[0].permute(1, 2, 0).reshape(-1, 4)
        top, rows = logits.sort(descending=True)
        top, rows = top[: recipe.per_level], rows[: recipe.per_level]
        anchors = _anchors(features.shape[-2:], 4 << level, 32 << level)
        boxes.append(_clip(_decode(deltas[rows], anchors[rows], (1.0, 1.0, 1.0, 1.0)), size_hw))
        scores.append(top)
        levels.append(torch.full_like(rows, level))
    box, score, level_of = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
    whole = ((box[:, 2:] - box[:, :2]) > 0).all(1)
    box, score, level_of = box[whole], score[whole], level_of[whole]
    return box[batched_nms(box, score, level_of, 0.7)[: recipe.proposals]]


def _anchors(size_hw: tuple[int, int], stride: int, size: int) -> Tensor:
    cells = []
    for ratio in (0.5, 1.0, 2.0):
        width = math.sqrt(size**2 / ratio)
        height = ratio * width
        cells.append([-width / 2, -height / 2, width / 2, height / 2])
    y, x = torch.meshgrid(torch.arange(size_hw[0]) * stride, torch.arange(size_hw[1]) * stride, indexing="ij")
    shifts = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (shifts + torch.tensor(cells)).reshape(-1, 4)


def _decode(deltas: Tensor, boxes: Tensor, weights: tuple[float, ...]) -> Tensor:
    size = boxes[:, 2:] - boxes[:, :2]
    center = boxes[:, :2] + 0.5 * size
    dxy, dwh = (deltas / torch.tensor(weights)).split(2, 1)
    center = dxy * size + center
    half = 0.5 * dwh.clamp(max=math.log(1000.0 / 16)).exp() * size
    return torch.cat([center - half, center + half], 1)


def _clip(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    height, width = size_hw
    return torch.stack([boxes[:, i].clamp(0, width if i % 2 == 0 else height) for i in range(4)], 1)


def _pool(maps: list[Tensor], boxes: Tensor, size: int, recipe: Recipe) -> Tensor:
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    levels = torch.floor(4 + torch.log2(areas.sqrt() / 224 + 1e-8)).clamp(2, 5).long() - 2
    pooled = torch.zeros(len(boxes), maps[0].shape[1], size, size)
    for level, features in enumerate(maps):
        rows = torch.nonzero(levels == level)[:, 0]
        rois = torch.cat([torch.zeros(len(rows), 1), boxes[rows]], 1)
        pooled[rows] = roi_align(features, rois, size, 1 / STRIDES[level], recipe.samples, recipe.aligned)
    return pooled


def _classify(
    state: dict[str, Tensor], recipe: Recipe, maps: list[Tensor], proposals: Tensor, size_hw: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    h = _pool(maps, proposals, 7, recipe).flatten(1)
    for layer in ("fc1", "fc2"):
        name = f"roi_heads.box_head.{layer}"
        h = F.relu(F.linear(h, state[f"{name}.weight"], state[f"{name}.bias"]))
    name = "roi_heads.box_predictor"
    scores = F.linear(h, state[f"{name}.cls_score.weight"], state[f"{name}.cls_score.bias"]).softmax(1)[:, :-1]
    deltas = F.linear(h, state[f"{name}.bbox_pred.weight"], state[f"{name}.bbox_pred.bias"]).reshape(-1, 4)
    rows = torch.arange(len(proposals)).repeat_interleave(recipe.classes)
    boxes = _clip(_decode(deltas, proposals[rows], recipe.box_weights), size_hw)
    labels = torch.arange(recipe.classes).repeat(len(proposals))
    scores = scores.flatten()
    above = scores > 0.05
    boxes, scores, labels = boxes[above], scores[above], labels[above]
    kept = batched_nms(boxes, scores, labels, 0.5)[: recipe.detections]
    return boxes[kept], scores[kept], labels[kept]

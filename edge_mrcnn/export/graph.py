"""The deploy graph: a trained Mask R-CNN re-expressed with fixed shapes, for tracing.

It shares the trained modules and changes no weight. `MaskRCNN.eval()` is its oracle: same detections.
From a uint8 image to boxes, scores, labels and masks everything is inside.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from edge_mrcnn.config import ModelConfig
from edge_mrcnn.export import operators
from edge_mrcnn.model.backbones.repvgg import fuse_blocks
from edge_mrcnn.model.box_head import AgnosticBoxPredictor

SMALLEST_PROPOSAL_PX = 1e-3
SMALLEST_DETECTION_PX = 1e-2
"""Boxes with a side below these are dropped, as torchvision does in its two stages."""


class DeployGraph(nn.Module):
    """Inference of a Mask R-CNN on one image.

    `detect` and `mask` are its halves; `forward` is both, with as many masks as there are detections.
    """

    mean: Tensor
    inverse_std: Tensor
    owner: Tensor
    label: Tensor

    def __init__(self, model: MaskRCNN, config: ModelConfig) -> None:
        super().__init__()
        model = copy.deepcopy(model).eval().requires_grad_(False)
        fuse_blocks(model)
        self.config = config
        self.pyramid = model.backbone
        self.rpn_head = model.rpn.head
        self.box_head = model.roi_heads.box_head
        self.box_predictor = model.roi_heads.box_predictor
        self.mask_head = model.roi_heads.mask_head
        self.mask_predictor = model.roi_heads.mask_predictor
        self.proposal_iou = model.rpn.nms_thresh
        self.num_classes: int = self.box_predictor.cls_score.out_features - 1
        self.box_pool = RoiPool(model.roi_heads.box_roi_pool, config.image_size_hw)
        self.mask_pool = RoiPool(model.roi_heads.mask_roi_pool, config.image_size_hw)
        self.proposal_coder = BoxDecoder(model.rpn.box_coder.weights, config.image_size_hw)
        self.detection_coder = BoxDecoder(model.roi_heads.box_coder.weights, config.image_size_hw)
        self._add_constants(model)
        self.eval()

    def _add_constants(self, model: MaskRCNN) -> None:
        """Anchors of each level, normalisation, and the tables that replace integer division."""
        height, width = self.config.image_size_hw
        mean, std = torch.tensor(model.transform.image_mean), torch.tensor(model.transform.image_std)
        self.register_buffer("mean", 255 * mean[:, None, None], persistent=False)
        self.register_buffer("inverse_std", 1 / (255 * std[:, None, None]), persistent=False)
        blank = torch.zeros(1, 3, height, width)
        maps = list(self.pyramid(blank).values())
        (anchors,) = model.rpn.anchor_generator(ImageList(blank, [(height, width)]), maps)
        counts = [m.shape[-2] * m.shape[-1] * a for m, a in zip(maps, _anchors_per_cell(model), strict=True)]
        for level, part in enumerate(anchors.split(counts)):
            self.register_buffer(f"anchors{level}", part, persistent=False)
        pairs = torch.arange(self.config.proposals * self.num_classes)
        self.register_buffer("owner", pairs // self.num_classes, persistent=False)
        self.register_buffer("label", pairs % self.num_classes, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One image to live rows.

        Args:
            image: (1, H, W, 3) uint8 RGB.

        Returns:
            boxes (n, 4) float32 xyxy in input pixels, scores (n,), labels (n,) int64 0-based,
            masks (n, M, M) float32 probabilities; sorted by score.
        """
        boxes, scores, labels, count, maps = self.detect(image)
        boxes, scores, labels = operators.live_rows(boxes, scores, labels, count)
        return boxes, scores, labels, self.mask(maps, boxes, labels)

    def detect(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
        """Everything but the masks.

        Returns:
            boxes (D, 4), scores (D,), labels (D,), of which the first `count` rows are live and the others
            have score 0; count () int64; and the pyramid maps that `mask` takes.
        """
        x = (image.permute(0, 3, 1, 2).float() - self.mean) * self.inverse_std
        maps = list(self.pyramid(x).values())
        proposals, alive = self._propose(maps)
        class_logits, deltas = self._classify(self.box_head(self.box_pool(maps, proposals)))
        boxes, scores, labels, count = self._select(proposals, alive, class_logits, deltas)
        return boxes, scores, labels, count, maps[: self.mask_pool.levels]

    def mask(self, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        """Masks of n boxes.

        Only the logits of each box's own class are computed: its row of the last 1x1 convolution.

        Args:
            maps: Pyramid maps from `detect`.
            boxes: (n, 4) float32 xyxy in input pixels.
            labels: (n,) integer, 0-based.

        Returns:
            (n, M, M) float32 probabilities.
        """
        predictor = self.mask_predictor
        h = predictor.relu(predictor.conv5_mask(self.mask_head(self.mask_pool(maps, boxes))))
        weight = take(predictor.mask_fcn_logits.weight[1:, :, 0, 0], labels)
        bias = take(predictor.mask_fcn_logits.bias[1:], labels)
        logits = torch.matmul(weight[:, None], h.flatten(2)) + bias[:, None, None]
        return torch.sigmoid(logits).reshape(-1, h.shape[2], h.shape[3])

    def _propose(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """(P, 4) proposals and (P,) float32, 1 where the row is live."""
        objectness, deltas = self.rpn_head(maps)
        boxes, scores, offsets = [], [], []
        for level, (logits, delta) in enumerate(zip(objectness, deltas, strict=True)):
            anchors = getattr(self, f"anchors{level}")
            logits = logits[0].permute(1, 2, 0).reshape(-1)
            delta = delta[0].reshape(-1, 4, *delta.shape[2:]).permute(2, 3, 0, 1).reshape(-1, 4)
            top, rows = logits.topk(min(self.config.proposals_per_level, logits.shape[0]))
            boxes.append(self.proposal_coder(take(delta, rows), take(anchors, rows)))
            scores.append(top)
            offsets.append(torch.full_like(top, float(level * self._class_stride)))
        box, score, offset = torch.cat(boxes), torch.cat(scores), torch.cat(offsets)
        alive = is_larger(box, SMALLEST_PROPOSAL_PX)
        score = torch.sigmoid(score) * alive
        return self._suppress(box, score, offset, self.proposal_iou, self.config.proposals)[:2]

    def _classify(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (P, K) and deltas: (P, 4) where all classes share them, else (P, K - 1, 4)."""
        predictor = self.box_predictor
        deltas = predictor.bbox_pred(features)
        if not isinstance(predictor, AgnosticBoxPredictor):
            deltas = deltas.reshape(-1, self.num_classes + 1, 4)[:, 1:]
        return predictor.cls_score(features), deltas

    def _select(
        self, proposals: Tensor, alive: Tensor, class_logits: Tensor, deltas: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scores = torch.softmax(class_logits, -1)[:, 1:] * alive[:, None]
        top, pairs = scores.reshape(-1).topk(self._candidates)
        rows, labels = take(self.owner, pairs), take(self.label, pairs)
        if deltas.dim() == 2:
            boxes = take(self.detection_coder(deltas, proposals), rows)
        else:
            boxes = self.detection_coder(take(deltas.reshape(-1, 4), pairs), take(proposals, rows))
        top = top * (top > self.config.score_threshold).float() * is_larger(boxes, SMALLEST_DETECTION_PX)
        offset = labels.float() * float(self._class_stride)
        limit = self.config.max_detections
        boxes, live, kept, count = self._suppress(boxes, top, offset, self.config.iou_threshold, limit)
        return boxes, take(top, kept) * live, take(labels, kept), count

    def _suppress(
        self, boxes: Tensor, scores: Tensor, offset: Tensor, iou: float, limit: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """NMS among boxes of equal offset.

        Returns:
            Kept boxes (limit, 4), live rows (limit,) float32 of 0 and 1, their indices, and their number.
        """
        scores, order = scores.topk(scores.shape[0])
        apart = take(boxes, order) + take(offset, order)[:, None]
        kept, count = operators.nms(apart, scores, iou, limit)
        live = (torch.arange(limit, device=boxes.device) < count).float()
        kept = take(order, kept)
        return take(boxes, kept), live, kept, count

    @property
    def _class_stride(self) -> int:
        """Offset that keeps boxes of different classes or levels from overlapping, in pixels."""
        return max(self.config.image_size_hw) + 1

    @property
    def _candidates(self) -> int:
        """At most 1 / t classes of a proposal can have a probability above t, so this many rows are exact."""
        per_proposal = self.num_classes
        if self.config.score_threshold > 0:
            per_proposal = min(per_proposal, math.ceil(1 / self.config.score_threshold))
        return self.config.proposals * per_proposal


class RoiPool(nn.Module):
    """`MultiScaleRoIAlign` with constants in place of what it infers from shapes."""

    def __init__(self, pool: MultiScaleRoIAlign, image_size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.levels = len(pool.featmap_names)
        finest = 2 if self.levels == 4 else 3
        self.scales = [2.0 ** -(finest + i) for i in range(self.levels)]
        self.bounds = operators.level_bounds(self.levels, finest, pool.canonical_scale, pool.canonical_level)
        self.size = pool.output_size[0]
        self.sampling_ratio = pool.sampling_ratio

    def forward(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        """Maps (1, C, H_i, W_i), finest first, and boxes (K, 4) to (K, C, size, size)."""
        pooled: Tensor = operators.multiscale_roi_align(
            maps[: self.levels], boxes, self.scales, self.bounds, self.size, self.sampling_ratio
        )
        return pooled


class BoxDecoder(nn.Module):
    """Deltas and reference boxes to boxes inside the image (R-CNN, arXiv 1311.2524, appendix C)."""

    inverse_weights: Tensor

    def __init__(self, weights: tuple[float, float, float, float], image_size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("inverse_weights", 1 / torch.tensor(weights), persistent=False)
        height, width = image_size_hw
        self.width, self.height = float(width), float(height)
        self.largest = math.log(1000.0 / 16)

    def forward(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """(N, 4) and (N, 4) xyxy to (N, 4) xyxy, clipped."""
        deltas = deltas * self.inverse_weights
        size = boxes[:, 2:] - boxes[:, :2]
        center = boxes[:, :2] + 0.5 * size + deltas[:, :2] * size
        half = 0.5 * size * torch.exp(deltas[:, 2:].clamp(max=self.largest))
        low, high = center - half, center + half
        x0, x1 = low[:, 0].clamp(0.0, self.width), high[:, 0].clamp(0.0, self.width)
        y0, y1 = low[:, 1].clamp(0.0, self.height), high[:, 1].clamp(0.0, self.height)
        return torch.stack([x0, y0, x1, y1], 1)


def take(rows: Tensor, index: Tensor) -> Tensor:
    """rows[index] as one Gather."""
    return torch.index_select(rows, 0, index)


def is_larger(boxes: Tensor, side: float) -> Tensor:
    """(N,) float32, 1 where both sides of the box reach `side` pixels."""
    return ((boxes[:, 2:] - boxes[:, :2]).amin(1) >= side).float()


def _anchors_per_cell(model: MaskRCNN) -> list[int]:
    counts: list[int] = model.rpn.anchor_generator.num_anchors_per_location()
    return counts

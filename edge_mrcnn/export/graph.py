"""The deploy graph: a trained Mask R-CNN re-expressed with fixed shapes, for tracing.

It shares the trained modules and changes no weight. `MaskRCNN.eval()` is the reference: the detections are the same.
Everything from a uint8 image to boxes, scores, labels and masks is inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from edge_mrcnn.config import ModelConfig
from edge_mrcnn.export import operators
from edge_mrcnn.model.box_head import AgnosticBoxPredictor
from edge_mrcnn.model.fusing import fused
from edge_mrcnn.model.region_pool import is_aligned

SMALLEST_PROPOSAL_PX = 1e-3
SMALLEST_DETECTION_PX = 1e-2
"""Boxes with a smaller side are dropped, as in torchvision's two stages."""

STATIC_CANDIDATES = 3839
"""Maximum number of boxes in an NMS of a static graph, the best ones: TensorRT's TopK takes fewer than 3840."""
MASK_BATCH = 4
"""Boxes per run of a TFLite file's `mask` signature; in INT8, four cost half as much as four single runs."""


class DeployGraph(nn.Module):
    """Inference of a Mask R-CNN on N images.

    `detect` and `mask` are its halves; `forward` is both, with one mask per detection.
    """

    mean: Tensor | None
    inverse_std: Tensor
    owner: Tensor
    label: Tensor
    level_offset: Tensor
    image_of_proposal: Tensor
    image_of_row: Tensor

    def __init__(self, model: MaskRCNN, config: ModelConfig, *, batch: int = 1, static: bool = False) -> None:
        """

        Args:
            model: The trained model; it is copied.
            config: Its parts and inference settings.
            batch: N, images per run.
            static: Return D rows for each image, unused ones with score 0, in place of one row per detection.
        """
        super().__init__()
        self.batch = batch
        self.static = static
        model = fused(model).requires_grad_(False)
        fold_norms(model.roi_heads.mask_head)
        model.roi_heads.mask_predictor.conv5_mask = PointwiseUpsampling(model.roi_heads.mask_predictor.conv5_mask)
        self.config = config
        self.pyramid = model.backbone
        self.rpn_head = ProposalHead(model.rpn.head)
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
        """Anchors of each level, normalisation, and tables that replace integer division."""
        height, width = self.config.image_size_hw
        mean = torch.tensor(model.transform.image_mean)[:, None, None]
        std = torch.tensor(model.transform.image_std)[:, None, None]
        self.register_buffer("mean", 255 * mean if mean.any() else None, persistent=False)
        self.register_buffer("inverse_std", 1 / (255 * std), persistent=False)
        blank = torch.zeros(1, 3, height, width)
        maps = list(self.pyramid(blank).values())
        (anchors,) = model.rpn.anchor_generator(ImageList(blank, [(height, width)]), maps)
        counts = []
        for level_map, per_cell in zip(maps, _anchors_per_cell(model), strict=True):
            rows, columns = level_map.shape[-2:]
            counts.append(rows * columns * per_cell)
        offsets = []
        for level, part in enumerate(anchors.split(counts)):
            self.register_buffer(f"anchors{level}", part, persistent=False)
            kept = min(self.config.proposals_per_level, len(part))
            offsets.append(torch.full((kept,), float(level * self._class_stride)))
        self.register_buffer("level_offset", torch.cat(offsets), persistent=False)
        images = torch.arange(self.batch)
        image_of_proposal = images.repeat_interleave(self.config.proposals)
        image_of_row = images.repeat_interleave(self.config.max_detections)
        self.register_buffer("image_of_proposal", image_of_proposal, persistent=False)
        self.register_buffer("image_of_row", image_of_row, persistent=False)
        pairs = torch.arange(self.config.proposals * self.num_classes)
        self.register_buffer("owner", pairs // self.num_classes, persistent=False)
        self.register_buffer("label", pairs % self.num_classes, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """N images to one row per detection, or to D rows each.

        Args:
            image: (N, H, W, 3) uint8 RGB.

        Returns:
            boxes (n, 4) float32 xyxy in input pixels, scores (n,), labels (n,) int64 0-based, masks (n, M, M) float32
            probabilities; of one image after the other, sorted by score. For N > 1 and live rows also images (n,)
            int64, the image that each row belongs to.
        """
        boxes, scores, labels, maps = self.detect(image)
        images = self.image_of_row
        if not self.static:
            rows = operators.live_rows(scores)
            boxes = take(boxes, rows)
            scores = take(scores, rows)
            labels = take(labels, rows)
            images = take(images, rows)
        masks = self.mask(maps, boxes, labels, images)
        if self.batch == 1 or self.static:
            return boxes, scores, labels, masks
        return boxes, scores, labels, masks, images

    def detect(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Everything except the masks.

        Returns:
            boxes (N D, 4), scores (N D,), labels (N D,), where dead rows have score 0; and the pyramid maps that `mask`
            takes.
        """
        normalized = self._normalize(image)
        maps = list(self.pyramid(normalized).values())
        objectness, deltas = self.rpn_head(maps)
        found = []
        for number in range(self.batch):
            own_objectness = [level[number] for level in objectness]
            own_deltas = [level[number] for level in deltas]
            found.append(self._propose(own_objectness, own_deltas))
        proposals, alive = join(found)
        features = self.box_head(self.box_pool(maps, proposals, self.image_of_proposal))
        class_logits, class_deltas = self._classify(features)
        # The rows of each image: proposals, validity, logits and deltas.
        own_rows = zip(
            split(proposals, self.batch),
            split(alive, self.batch),
            split(class_logits, self.batch),
            split(class_deltas, self.batch),
            strict=True,
        )
        boxes, scores, labels = join([self._select(*rows) for rows in own_rows])
        return boxes, scores, labels, maps[: self.mask_pool.levels]

    def mask(self, maps: list[Tensor], boxes: Tensor, labels: Tensor, images: Tensor | None = None) -> Tensor:
        """Masks of n boxes.

        Only the logits of each box's own class are computed: its row of the last 1x1 convolution.

        Args:
            maps: Pyramid maps from `detect`.
            boxes: (n, 4) float32 xyxy in input pixels.
            labels: (n,) integer, 0-based.
            images: (n,) int64, the image that each box belongs to; not needed where N is 1.

        Returns:
            (n, M, M) float32 probabilities.
        """
        predictor = self.mask_predictor
        regions = self.mask_pool(maps, boxes, images)
        h = predictor.conv5_mask(self.mask_head(regions))
        # Row 0 of the logits is the background.
        weight = take(predictor.mask_fcn_logits.weight[1:, :, 0, 0], labels)
        bias = take(predictor.mask_fcn_logits.bias[1:], labels)
        height, width = h.shape[2:]
        # Integer convolutions return channels last, so this order needs no transposition.
        cells = h.permute(0, 2, 3, 1).reshape(-1, 4 * height * width, weight.shape[1])
        logits = torch.matmul(cells, weight[:, :, None])[:, :, 0] + bias[:, None]
        probs = torch.sigmoid(logits)
        # Each position has four cells: move them to two rows and two columns.
        apart = probs.reshape(-1, height, width, 2, 2).permute(0, 1, 3, 2, 4)
        return apart.reshape(-1, 2 * height, 2 * width)

    def _normalize(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 to (N, 3, H, W) with the backbone's mean and deviation; a mean of 0 costs nothing."""
        # Cast first: TensorRT supports uint8 only at the input.
        x = image.float().permute(0, 3, 1, 2)
        if self.mean is not None:
            x = x - self.mean
        return x * self.inverse_std

    def _propose(self, objectness: list[Tensor], deltas: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Objectness (A, H_i, W_i) and deltas (4 A, H_i, W_i) of an image's levels, A being the anchors of a cell, to
        (P, 4) proposals and (P,) float32, 1 where the row is live."""
        scores, best_deltas, best_anchors = [], [], []
        for level, (logits, delta) in enumerate(zip(objectness, deltas, strict=True)):
            anchors = getattr(self, f"anchors{level}")
            logits = logits.permute(1, 2, 0).reshape(-1)
            delta = delta.reshape(-1, 4, *delta.shape[1:]).permute(2, 3, 0, 1).reshape(-1, 4)
            count = min(self.config.proposals_per_level, logits.shape[0])
            top, rows = logits.topk(count)
            scores.append(top)
            best_deltas.append(take(delta, rows))
            best_anchors.append(take(anchors, rows))
        # Decode all levels together: a small operator costs about the same for few rows as for many.
        box = self.proposal_coder(torch.cat(best_deltas), torch.cat(best_anchors))
        alive = is_larger(box, SMALLEST_PROPOSAL_PX)
        score = torch.sigmoid(torch.cat(scores)) * alive
        score, order = score.topk(self._bounded(score.shape[0]))
        box, offset = take(box, order), take(self.level_offset, order)
        proposals, live, _ = self._suppress(box, score, offset, self.proposal_iou, self.config.proposals)
        return proposals, live

    def _classify(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (P, K) and deltas: (P, 4) where all classes share them, else (P, K - 1, 4)."""
        predictor = self.box_predictor
        deltas = predictor.bbox_pred(features)
        if not isinstance(predictor, AgnosticBoxPredictor):
            deltas = deltas.reshape(-1, self.num_classes + 1, 4)[:, 1:]
        return predictor.cls_score(features), deltas

    def _select(
        self, proposals: Tensor, alive: Tensor, class_logits: Tensor, deltas: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of one image: (D, 4) boxes, (D,) scores and (D,) labels from what `_classify` says of its proposals."""
        # Column 0 is the background.
        scores = torch.softmax(class_logits, -1)[:, 1:] * alive[:, None]
        top, pairs = scores.reshape(-1).topk(self._candidates)
        rows = take(self.owner, pairs)
        labels = take(self.label, pairs)
        classes_share_deltas = deltas.dim() == 2
        if classes_share_deltas:
            boxes = take(self.detection_coder(deltas, proposals), rows)
        else:
            boxes = self.detection_coder(take(deltas.reshape(-1, 4), pairs), take(proposals, rows))
        is_sure = (top > self.config.score_threshold).float()
        top = top * is_sure * is_larger(boxes, SMALLEST_DETECTION_PX)
        offset = labels.float() * float(self._class_stride)
        limit = self.config.max_detections
        boxes, live, kept = self._suppress(boxes, top, offset, self.config.iou_threshold, limit)
        return boxes, take(top, kept) * live, take(labels, kept)

    def _suppress(
        self, boxes: Tensor, scores: Tensor, offset: Tensor, iou: float, limit: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """NMS among boxes with equal offset, sorted by score except for rows of score 0.

        Returns:
            Kept boxes (limit, 4), live rows (limit,) float32 of 0 and 1, and their indices.
        """
        kept, count = operators.nms(boxes + offset[:, None], scores, iou, limit)
        live = (torch.arange(limit, device=boxes.device) < count).float()
        return take(boxes, kept), live, kept

    @property
    def _class_stride(self) -> int:
        """Offset that keeps boxes of different classes or levels from overlapping, in pixels."""
        return max(self.config.image_size_hw) + 1

    @property
    def _candidates(self) -> int:
        """At most 1 / t classes of a proposal can have a probability above t, so this number of rows is exact."""
        per_proposal = self.num_classes
        if self.config.score_threshold > 0:
            per_proposal = min(per_proposal, math.ceil(1 / self.config.score_threshold))
        return self._bounded(self.config.proposals * per_proposal)

    def _bounded(self, candidates: int) -> int:
        return min(candidates, STATIC_CANDIDATES) if self.static else candidates


class RoiPool(nn.Module):
    """`MultiScaleRoIAlign` with constants in place of values inferred from shapes."""

    def __init__(self, pool: MultiScaleRoIAlign, image_size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.levels = len(pool.featmap_names)
        finest = 2 if self.levels == 4 else 3
        self.scales = [2.0**-level for level in range(finest, finest + self.levels)]
        self.bounds = operators.level_bounds(self.levels, finest, pool.canonical_scale, pool.canonical_level)
        self.size = pool.output_size[0]
        self.sampling_ratio = pool.sampling_ratio
        self.aligned = is_aligned(pool)

    def forward(self, maps: list[Tensor], boxes: Tensor, images: Tensor | None) -> Tensor:
        """Maps (N, C, H_i, W_i), finest first, boxes (K, 4) and their images (K,) to (K, C, size, size)."""
        images = None if len(maps[0]) == 1 else images
        pooled: Tensor = operators.multiscale_roi_align(
            maps[: self.levels], boxes, self.scales, self.bounds, self.size, self.sampling_ratio, images, self.aligned
        )
        return pooled


class ProposalHead(nn.Module):
    """torchvision's RPN head with one convolution for objectness and deltas.

    Both read the same map: it is dequantized once, and one call does the work of two.
    """

    def __init__(self, head: RPNHead) -> None:
        super().__init__()
        self.conv = head.conv
        self.anchors = head.cls_logits.out_channels
        parts = head.cls_logits, head.bbox_pred
        channels = sum(part.out_channels for part in parts)
        self.predictors = nn.Conv2d(head.cls_logits.in_channels, channels, 1)
        self.predictors.weight = nn.Parameter(torch.cat([part.weight for part in parts]))
        self.predictors.bias = nn.Parameter(torch.cat([part.bias for part in parts if part.bias is not None]))
        self.requires_grad_(False)

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (N, C, H_i, W_i) to objectness (N, A, H_i, W_i) and deltas (N, 4 A, H_i, W_i) of each level."""
        predictions = [self.predictors(self.conv(level)) for level in maps]
        objectness = [level[:, : self.anchors] for level in predictions]
        deltas = [level[:, self.anchors :] for level in predictions]
        return objectness, deltas


class BoxDecoder(nn.Module):
    """Deltas and reference boxes to boxes inside the image (R-CNN, arXiv 1311.2524, appendix C)."""

    inverse_weights: Tensor
    limit: Tensor

    def __init__(self, weights: tuple[float, float, float, float], image_size_hw: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size_hw
        self.register_buffer("inverse_weights", 1 / torch.tensor(weights), persistent=False)
        self.register_buffer("limit", torch.tensor([width, height] * 2, dtype=torch.float32), persistent=False)
        self.largest = math.log(1000.0 / 16)

    def forward(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """(N, 4) and (N, 4) xyxy to (N, 4) xyxy, clipped."""
        deltas = deltas * self.inverse_weights
        size = boxes[:, 2:] - boxes[:, :2]
        center = boxes[:, :2] + 0.5 * size + deltas[:, :2] * size
        half = 0.5 * size * torch.exp(deltas[:, 2:].clamp(max=self.largest))
        corners = torch.cat([center - half, center + half], 1)
        return torch.minimum(corners.clamp(min=0.0), self.limit)


class PointwiseUpsampling(nn.Conv2d):
    """A 2x2 transposed convolution of stride 2 and ReLU as a 1x1 convolution to 4 C channels, C for each of its cells.

    The cells do not overlap, so it is the same function. Runtimes have fast integer kernels for a 1x1 convolution and
    none for a transposed one; and the next layer may sum over channels before the cells are moved to their positions.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        assert layer.kernel_size == layer.stride == (2, 2) and layer.padding == (0, 0) and layer.bias is not None
        inputs, outputs = layer.weight.shape[:2]
        super().__init__(inputs, 4 * outputs, 1)
        cells_first = layer.weight.permute(2, 3, 1, 0)
        self.weight = nn.Parameter(cells_first.reshape(4 * outputs, inputs, 1, 1))
        self.bias = nn.Parameter(layer.bias.repeat(4))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, 4 C, H, W): upper left, upper right, lower left, lower right cells."""
        return F.relu(super().forward(x))


def fold_norms(module: nn.Module) -> None:
    """Fuse the BatchNorm after each convolution, in place; torch cannot trace one with a dynamic number of rows."""
    blocks = [part for part in module.modules() if isinstance(part, nn.Sequential)]
    for block in blocks:
        for index, (layer, norm) in enumerate(pairwise(list(block))):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block[index] = fuse_conv_bn_eval(layer, norm)
                block[index + 1] = nn.Identity()


def take(rows: Tensor, index: Tensor) -> Tensor:
    """rows[index] as one Gather."""
    return torch.index_select(rows, 0, index)


def join(parts: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Tuples of tensors, one tuple for each image, to one tuple with the rows of all images."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    return tuple(torch.cat(rows) for rows in zip(*parts, strict=True))


def split(rows: Tensor, batch: int) -> Sequence[Tensor]:
    """The rows of each image."""
    return [rows] if batch == 1 else rows.split(rows.shape[0] // batch)


def is_larger(boxes: Tensor, side: float) -> Tensor:
    """(N,) float32, 1 where both sides of the box reach `side` pixels."""
    shorter = (boxes[:, 2:] - boxes[:, :2]).amin(1)
    return (shorter >= side).float()


def _anchors_per_cell(model: MaskRCNN) -> list[int]:
    counts: list[int] = model.rpn.anchor_generator.num_anchors_per_location()
    return counts

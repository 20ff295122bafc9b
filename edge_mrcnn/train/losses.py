"""The losses of one step, and the regions they are computed on.

The same operations in the same order as `torchvision.models.detection.MaskRCNN.forward` in training, with its own
modules and loss functions. The intermediate values are returned here, so that a teacher can process them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_loss

from edge_mrcnn.data.targets import Target, unpack_masks
from edge_mrcnn.model.region_pool import is_aligned


@dataclass(frozen=True)
class Regions:
    """Outputs of the two heads for the sampled regions of a batch: K of them, of which Q are objects with a mask."""

    maps: list[Tensor]
    """(B, C, H / s, W / s), the pyramid that they were pooled from, finest level first."""
    boxes: list[Tensor]
    """(K_i, 4) xyxy of each image, in input pixels."""
    labels: Tensor
    """(K,) int64, 0 for background."""
    features: Tensor
    """(K, C, 7, 7) pooled from the pyramid."""
    class_logits: Tensor
    """(K, classes), background first."""
    deltas: Tensor
    """(K, 4 * classes) box regressions."""
    object_boxes: list[Tensor]
    """(Q_i, 4) xyxy of each image."""
    object_labels: Tensor
    """(Q,) int64, from 1."""
    mask_features: Tensor
    """(Q, C, 14, 14)."""
    mask_logits: Tensor
    """(Q, classes, 28, 28)."""


def compute_losses(model: MaskRCNN, images: Tensor, targets: list[Target]) -> tuple[dict[str, Tensor], Regions]:
    """The five losses of Mask R-CNN (arXiv 1703.06870, section 3) by name, and the regions behind them.

    Args:
        model: In training mode.
        images: (B, 3, H, W) uint8 RGB.
        targets: Boxes, labels and masks of each image, packed or as in torchvision.
    """
    batch, _ = model.transform(images)
    features = model.backbone(batch.tensors)
    proposals, losses = model.rpn(batch, features, targets)
    heads = model.roi_heads
    boxes, matches, labels, regressions = heads.select_training_samples(proposals, targets)
    pooled = heads.box_roi_pool(features, boxes, batch.image_sizes)
    class_logits, deltas = heads.box_predictor(heads.box_head(pooled))
    classifier, box_reg = fastrcnn_loss(class_logits, deltas, labels, regressions)
    objects = [
        torch.where((label > 0) & _are_outlined(target, owner))[0]
        for label, target, owner in zip(labels, targets, matches, strict=True)
    ]
    object_boxes, object_labels, owners = (
        [values[rows] for values, rows in zip(lists, objects, strict=True)] for lists in (boxes, labels, matches)
    )
    mask_features = heads.mask_roi_pool(features, object_boxes, batch.image_sizes)
    mask_logits = heads.mask_predictor(heads.mask_head(mask_features))
    # Torchvision crops mask targets half a pixel to the lower right of the position of aligned features.
    shift = 0.5 if is_aligned(heads.mask_roi_pool) else 0.0
    target_boxes = [box - shift for box in object_boxes]
    masks, true_labels, own = _true_objects(targets, owners, (images.shape[-2], images.shape[-1]))
    losses |= {
        "loss_classifier": classifier,
        "loss_box_reg": box_reg,
        "loss_mask": maskrcnn_loss(mask_logits, target_boxes, masks, true_labels, own),
    }
    return losses, Regions(
        list(features.values()), boxes, torch.cat(labels), pooled, class_logits, deltas,
        object_boxes, torch.cat(object_labels), mask_features, mask_logits,
    )  # fmt: skip


def _are_outlined(target: Target, rows: Tensor) -> Tensor:
    """(K,) bool, whether the object of each region has a mask; an object with only a box trains no mask."""
    if not len(target["labels"]):
        return torch.zeros_like(rows, dtype=torch.bool)
    return target["has_mask"][rows] if "has_mask" in target else torch.ones_like(rows, dtype=torch.bool)


def _true_objects(
    targets: list[Target], owners: list[Tensor], size_hw: tuple[int, int]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """For each image, the masks (Q_i, H, W) and labels (Q_i,) of its regions' objects, and the rows 0 to Q_i - 1."""
    masks = [unpack_masks(target, rows, size_hw) for target, rows in zip(targets, owners, strict=True)]
    labels = [target["labels"][rows] for target, rows in zip(targets, owners, strict=True)]
    return masks, labels, [torch.arange(len(rows), device=rows.device) for rows in owners]

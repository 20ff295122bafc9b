"""Mask R-CNN (arXiv 1703.06870) composed of torchvision's parts.

The result is an unmodified `torchvision.models.detection.MaskRCNN`: its losses, matchers and inference are the
reference, and nothing here depends on export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from edge_mrcnn.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from edge_mrcnn.model.backbones import build_backbone
from edge_mrcnn.model.box_head import AgnosticBoxPredictor, BoxHead
from edge_mrcnn.model.pyramid import PyramidBackbone
from edge_mrcnn.model.region_pool import RegionPool
from runtimes.errors import UsageError

PAD_RGB = (124, 116, 104)
"""ImageNet's mean colour as uint8: after normalisation the letterbox border is zero, as in torchvision."""


def maskrcnn_resnet101_fpn(*, weights: None, weights_backbone: None, num_classes: int, **settings: Any) -> MaskRCNN:
    """The equivalent of `maskrcnn_resnet50_fpn` on a ResNet of 101 layers, for which torchvision has no builder."""
    body = resnet_fpn_backbone(
        backbone_name="resnet101", weights=weights_backbone, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    return MaskRCNN(body, num_classes=num_classes, **settings)


RESNETS = {
    "torchvision_resnet50_fpn": (maskrcnn_resnet50_fpn, "resnet50", ResNet50_Weights.IMAGENET1K_V1),
    "torchvision_resnet50_fpn_v2": (maskrcnn_resnet50_fpn_v2, "resnet50", ResNet50_Weights.IMAGENET1K_V1),
    "torchvision_resnet101_fpn": (maskrcnn_resnet101_fpn, "resnet101", ResNet101_Weights.IMAGENET1K_V1),
}
"""Backbone -> torchvision's own Mask R-CNN with it, the name of the plain backbone, and its published weights."""

ANCHOR_SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
"""Anchor sides of torchvision's ResNet pyramid, one per level, in pixels."""

LEVELS = ["0", "1", "2"]
"""Pyramid levels that RoIs are pooled from."""


class LetterboxedInput(GeneralizedRCNNTransform):
    """Accepts images that are already letterboxed: uint8 (3, H, W), all of one size."""

    def __init__(
        self,
        image_size_hw: tuple[int, int],
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(min(image_size_hw), max(image_size_hw), list(image_mean), list(image_std))

    def forward(
        self, images: list[Tensor] | Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Stack and normalise images; boxes and masks are unchanged, because nothing is resized."""
        batch = images if isinstance(images, Tensor) else torch.stack(tuple(images))
        batch = self.normalize_batch(batch.float() / 255 if batch.dtype == torch.uint8 else batch)
        return ImageList(batch, [tuple(batch.shape[-2:])] * len(batch)), targets

    def normalize_batch(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to the backbone's mean and deviation."""
        mean, std = (batch.new_tensor(v).view(1, 3, 1, 1) for v in (self.image_mean, self.image_std))
        return (batch - mean) / std


def build_model(
    config: ModelConfig,
    num_classes: int,
    *,
    pretrained: bool = False,
    backbone_weights: str | Path | None = None,
) -> MaskRCNN:
    """Build a Mask R-CNN.

    Args:
        config: Settings of its parts.
        num_classes: Number of classes of the data, without background.
        pretrained: Download the backbone's ImageNet weights with torchvision's or timm's loader.
        backbone_weights: A local state dict of the backbone instead. All weights are trainable, including norms;
            `TrainConfig` decides what is frozen.

    Returns:
        An unmodified torchvision model. It takes (3, H, W) uint8 images letterboxed to `config.image_size_hw`, and its
        labels are 1-based, 0 being background.
    """
    build = _build_resnet if config.backbone in RESNETS else _build_light
    model = build(config, num_classes + 1, pretrained, backbone_weights)
    _letterbox_input(model, config)
    return model


def apply_inference_settings(model: MaskRCNN, config: ModelConfig) -> None:
    """Give a built model the inference settings and input size of another config, in place."""
    _letterbox_input(model, config)
    model.rpn._pre_nms_top_n["testing"] = config.proposals_per_level
    model.rpn._post_nms_top_n["testing"] = config.proposals
    model.roi_heads.score_thresh = config.score_threshold
    model.roi_heads.nms_thresh = config.iou_threshold
    model.roi_heads.detections_per_img = config.max_detections
    for pool in (model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool):
        pool.sampling_ratio = config.roi_samples


def _letterbox_input(model: MaskRCNN, config: ModelConfig) -> None:
    model.transform = LetterboxedInput(config.image_size_hw, model.transform.image_mean, model.transform.image_std)


def state_input(config: ModelConfig, model: MaskRCNN) -> ModelConfig:
    """The config of a model with the mean and deviation of its image normalisation."""
    mean, std = model.transform.image_mean, model.transform.image_std
    return replace(config, image_mean=tuple(mean), image_std=tuple(std))


def _inference_settings(config: ModelConfig) -> dict[str, Any]:
    return {
        "rpn_pre_nms_top_n_test": config.proposals_per_level,
        "rpn_post_nms_top_n_test": config.proposals,
        "rpn_nms_thresh": config.proposal_iou,
        "box_score_thresh": config.score_threshold,
        "box_nms_thresh": config.iou_threshold,
        "box_detections_per_img": config.max_detections,
    }


def _build_light(
    config: ModelConfig, num_classes: int, pretrained: bool, backbone_weights: str | Path | None
) -> MaskRCNN:
    body = build_backbone(config.backbone, pretrained=pretrained, weights=backbone_weights)
    channels = config.fpn_channels
    sizes = config.anchor_sizes or tuple(config.anchor_scale * stride for stride in (*body.strides, 64))
    if len(sizes) <= len(body.strides):
        raise UsageError(f"anchor_sizes {sizes}: expected one for each level, {len(body.strides) + 1} or more")
    anchors = StridedAnchors(sizes, config.anchor_ratios, body.strides[0])
    predictor = AgnosticBoxPredictor if config.class_agnostic_boxes else FastRCNNPredictor
    model = MaskRCNN(
        PyramidBackbone(body, body.channels, channels, len(sizes)),
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(channels, len(config.anchor_ratios)),
        rpn_pre_nms_top_n_train=500,
        rpn_post_nms_top_n_train=300,
        box_roi_pool=_roi_pool(config, config.box_pool_size, LEVELS),
        box_head=BoxHead(channels * config.box_pool_size**2, config.box_hidden),
        box_predictor=predictor(config.box_hidden[-1], num_classes),
        box_batch_size_per_image=128,
        mask_roi_pool=_roi_pool(config, config.mask_pool_size, LEVELS[: config.mask_levels or len(LEVELS)]),
        mask_head=MaskRCNNHeads(channels, config.mask_hidden, 1),
        mask_predictor=MaskRCNNPredictor(config.mask_hidden[-1], config.mask_hidden[-1], num_classes),
        image_mean=list(config.image_mean or body.image_mean),
        image_std=list(config.image_std or body.image_std),
        **_inference_settings(config),
    )
    _start_small(model.rpn.head)
    return model


def _roi_pool(config: ModelConfig, size: int, levels: list[str]) -> MultiScaleRoIAlign:
    """RoIAlign whose level assignment (arXiv 1612.03144, eq. 1) is scaled from 800 px to the model's input size."""
    canonical_scale = round(224 * max(config.image_size_hw) / 800)
    samples = config.roi_samples
    return MultiScaleRoIAlign(levels, size, sampling_ratio=samples, canonical_scale=canonical_scale, canonical_level=4)


def _start_small(head: RPNHead) -> None:
    """Few anchors are positive: start objectness at 2 %, so that the first steps are stable (arXiv 1708.02002, 4.1)."""
    nn.init.constant_(head.cls_logits.bias, -4.0)


def _build_resnet(
    config: ModelConfig, num_classes: int, pretrained: bool, backbone_weights: str | Path | None
) -> MaskRCNN:
    make, bare, weights = RESNETS[config.backbone]
    for name in ("box_pool_size", "mask_pool_size"):
        asked, own = getattr(config, name), getattr(ModelConfig, name)
        if asked != own:
            raise UsageError(f"{name} {asked}: expected {own}, as in torchvision's ResNet models")
    # With weights of the backbone, torchvision would freeze norms and layers by itself.
    model: MaskRCNN = make(
        weights=None,
        weights_backbone=None,
        num_classes=num_classes,
        image_mean=list(config.image_mean or IMAGENET_MEAN),
        image_std=list(config.image_std or IMAGENET_STD),
        **_resnet_anchors(config),
        **_inference_settings(config),
    )
    if pretrained:
        published = weights.get_state_dict(progress=False, check_hash=True)
        model.backbone.body.load_state_dict(published, strict=False)
    if backbone_weights is not None:
        body = build_backbone(bare, weights=backbone_weights).net
        model.backbone.body.load_state_dict(body.state_dict(), strict=False)
    if config.stride_in_1x1:
        _move_strides(model.backbone.body)
    heads = model.roi_heads
    for name in ("box_roi_pool", "mask_roi_pool"):
        pool = getattr(heads, name)
        pool.sampling_ratio = config.roi_samples
        if config.roi_aligned:
            setattr(heads, name, RegionPool.like(pool, aligned=True))
    return model


def _resnet_anchors(config: ModelConfig) -> dict[str, AnchorGenerator]:
    """Anchor arguments for torchvision's builders, which have these anchors by default."""
    if not config.anchor_sizes and config.anchors_rounded and config.anchor_ratios == ModelConfig.anchor_ratios:
        return {}
    sizes = config.anchor_sizes or ANCHOR_SIZES
    levels = len(ANCHOR_SIZES)
    per_level = len(sizes) // levels
    if per_level * levels != len(sizes):
        raise UsageError(f"anchor_sizes {sizes}: expected as many for each of the {levels} levels")
    by_level = tuple(tuple(sizes[i * per_level : (i + 1) * per_level]) for i in range(levels))
    make = AnchorGenerator if config.anchors_rounded else ExactAnchors
    return {"rpn_anchor_generator": make(by_level, (config.anchor_ratios,) * levels)}


class StridedAnchors(AnchorGenerator):
    """One anchor size per level, each level at twice the stride of the previous one.

    Torchvision divides the input by the size of the map, which is another stride if there is a remainder.
    """

    def __init__(self, sizes: Sequence[float], ratios: Sequence[float], finest: int) -> None:
        super().__init__(tuple((size,) for size in sizes), (tuple(ratios),) * len(sizes))
        self.strides = [finest * 2**level for level in range(len(sizes))]

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """(A, 4) xyxy for each image, in pixels: levels, rows, columns and shapes in this order."""
        device, dtype = feature_maps[0].device, feature_maps[0].dtype
        self.set_cell_anchors(dtype, device)
        strides = [[torch.tensor(stride, device=device)] * 2 for stride in self.strides]
        anchors = torch.cat(self.grid_anchors([list(m.shape[-2:]) for m in feature_maps], strides))
        return [anchors] * len(image_list.image_sizes)


class ExactAnchors(AnchorGenerator):
    """Anchors with exactly the requested sides and centre; torchvision rounds corners to whole pixels."""

    def generate_anchors(
        self,
        scales: list[int],
        aspect_ratios: list[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device = torch.device("cpu"),  # noqa: B008  as torchvision has it
    ) -> Tensor:
        """(len(aspect_ratios) * len(scales), 4) xyxy around the origin, in pixels; all scales of a ratio together."""
        sides = torch.as_tensor(scales, dtype=dtype, device=device)
        stretch = torch.as_tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        widths = (sides[None] / stretch[:, None]).flatten()
        heights = (sides[None] * stretch[:, None]).flatten()
        return torch.stack([-widths, -heights, widths, heights], 1) / 2


def _move_strides(body: nn.Module) -> None:
    """Move the stride to the first convolution of each stage instead of the second, in place."""
    for name in ("layer2", "layer3", "layer4"):
        block: Any = body.get_submodule(f"{name}.0")
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride

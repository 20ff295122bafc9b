"""Mask R-CNN (arXiv 1703.06870) composed of torchvision's parts.

The result is a stock `torchvision.models.detection.MaskRCNN`: its losses, matchers and inference are
the reference, and nothing here knows of export.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.anchor_utils import AnchorGenerator
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

PAD_RGB = (124, 116, 104)
"""ImageNet's mean colour as uint8: with its normalisation the letterbox border is zero, as in torchvision."""

RESNET50 = {
    "torchvision_resnet50_fpn": maskrcnn_resnet50_fpn,
    "torchvision_resnet50_fpn_v2": maskrcnn_resnet50_fpn_v2,
}
"""Backbone -> torchvision's own Mask R-CNN with it."""

RESNET50_WEIGHTS = ResNet50_Weights.IMAGENET1K_V1
"""Published weights of that backbone."""

LEVELS = ["0", "1", "2"]
"""Pyramid maps that RoIs are pooled from."""


class LetterboxedInput(GeneralizedRCNNTransform):
    """Takes images that are letterboxed already: uint8 (3, H, W), all of one size."""

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
        """Stack and normalise; boxes and masks stay as they are, since nothing is resized."""
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
        config: Its parts.
        num_classes: Classes of the data, background not counted.
        pretrained: Download the backbone's ImageNet weights by torchvision's or timm's loader.
        backbone_weights: A local state dict of the backbone instead. Wherever weights come from, all of them can be
            trained, norms too: what is frozen is for `TrainConfig` to say.

    Returns:
        A stock torchvision model. It takes (3, H, W) uint8 images letterboxed to `config.image_size_hw`
        and its labels are 1-based, 0 being background.
    """
    build = _build_resnet50 if config.backbone in RESNET50 else _build_light
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
    """The config of a model with the mean and deviation that its images are normalised by."""
    mean, std = model.transform.image_mean, model.transform.image_std
    return replace(config, image_mean=tuple(mean), image_std=tuple(std))


def _inference_settings(config: ModelConfig) -> dict[str, float]:
    return {
        "rpn_pre_nms_top_n_test": config.proposals_per_level,
        "rpn_post_nms_top_n_test": config.proposals,
        "box_score_thresh": config.score_threshold,
        "box_nms_thresh": config.iou_threshold,
        "box_detections_per_img": config.max_detections,
    }


def _build_light(
    config: ModelConfig, num_classes: int, pretrained: bool, backbone_weights: str | Path | None
) -> MaskRCNN:
    body = build_backbone(config.backbone, pretrained=pretrained, weights=backbone_weights)
    channels = config.fpn_channels
    anchors = AnchorGenerator(
        sizes=tuple((config.anchor_scale * stride,) for stride in (*body.strides, 64)),
        aspect_ratios=((0.5, 1.0, 2.0),) * 4,
    )
    predictor = AgnosticBoxPredictor if config.class_agnostic_boxes else FastRCNNPredictor
    model = MaskRCNN(
        PyramidBackbone(body, body.channels, channels),
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(channels, 3),
        rpn_pre_nms_top_n_train=500,
        rpn_post_nms_top_n_train=300,
        box_roi_pool=_roi_pool(config, 7, LEVELS),
        box_head=BoxHead(channels * 7 * 7, config.box_hidden),
        box_predictor=predictor(config.box_hidden[-1], num_classes),
        box_batch_size_per_image=128,
        mask_roi_pool=_roi_pool(config, 14, LEVELS[: config.mask_levels or len(LEVELS)]),
        mask_head=MaskRCNNHeads(channels, config.mask_hidden, 1),
        mask_predictor=MaskRCNNPredictor(config.mask_hidden[-1], config.mask_hidden[-1], num_classes),
        image_mean=list(config.image_mean or body.image_mean),
        image_std=list(config.image_std or body.image_std),
        **_inference_settings(config),
    )
    _start_small(model.rpn.head)
    return model


def _roi_pool(config: ModelConfig, size: int, levels: list[str]) -> MultiScaleRoIAlign:
    """RoIAlign whose level rule (arXiv 1612.03144, eq. 1) is scaled from 800 px to the model's input size."""
    canonical_scale = round(224 * max(config.image_size_hw) / 800)
    samples = config.roi_samples
    return MultiScaleRoIAlign(levels, size, sampling_ratio=samples, canonical_scale=canonical_scale, canonical_level=4)


def _start_small(head: RPNHead) -> None:
    """Few anchors are objects: start objectness at 2 %, so that the first steps are calm (arXiv 1708.02002, 4.1)."""
    nn.init.constant_(head.cls_logits.bias, -4.0)


def _build_resnet50(
    config: ModelConfig, num_classes: int, pretrained: bool, backbone_weights: str | Path | None
) -> MaskRCNN:
    make = RESNET50[config.backbone]
    # Given weights of the backbone, torchvision would freeze norms and layers, and nobody would have asked for it.
    model: MaskRCNN = make(weights=None, weights_backbone=None, num_classes=num_classes, **_inference_settings(config))
    if pretrained:
        published = RESNET50_WEIGHTS.get_state_dict(progress=False, check_hash=True)
        model.backbone.body.load_state_dict(published, strict=False)
    if backbone_weights is not None:
        body = build_backbone("resnet50", weights=backbone_weights).net
        model.backbone.body.load_state_dict(body.state_dict(), strict=False)
    return model

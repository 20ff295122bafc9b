"""MMDetection's Mask R-CNN, for tests: the model of `detectron2_model` as MMDetection 2 and 3 write it."""

from __future__ import annotations

import re
from typing import Any

from detectron2_model import Recipe, make_state

RENAMED = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm", "backbone.bn1"),
    (r"backbone\.bottom_up\.stem\.", "backbone."),
    (r"backbone\.bottom_up\.res(\d)", lambda m: f"backbone.layer{int(m[1]) - 1}"),
    (r"shortcut\.norm", "downsample.1"),
    (r"shortcut", "downsample.0"),
    (r"conv(\d)\.norm", r"bn\1"),
    (r"backbone\.fpn_lateral(\d)", lambda m: f"neck.lateral_convs.{int(m[1]) - 2}.conv"),
    (r"backbone\.fpn_output(\d)", lambda m: f"neck.fpn_convs.{int(m[1]) - 2}.conv"),
    (r"proposal_generator\.rpn_head\.conv", "rpn_head.rpn_conv"),
    (r"proposal_generator\.rpn_head\.objectness_logits", "rpn_head.rpn_cls"),
    (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn_head.rpn_reg"),
    (r"roi_heads\.box_head\.fc(\d)", lambda m: f"roi_head.bbox_head.shared_fcs.{int(m[1]) - 1}"),
    (r"roi_heads\.box_predictor\.cls_score", "roi_head.bbox_head.fc_cls"),
    (r"roi_heads\.box_predictor\.bbox_pred", "roi_head.bbox_head.fc_reg"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)", lambda m: f"roi_head.mask_head.convs.{int(m[1]) - 1}.conv"),
    (r"roi_heads\.mask_head\.deconv", "roi_head.mask_head.upsample"),
    (r"roi_heads\.mask_head\.predictor", "roi_head.mask_head.conv_logits"),
)
"""Detectron2's names and MMDetection's, of models of the same arithmetic."""

VERSION_3 = """
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],
                           bgr_to_rgb=True),
    backbone=dict(type='ResNet', depth=50, style='pytorch', norm_cfg=dict(type='BN', requires_grad=True)),
    rpn_head=dict(type='RPNHead', anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0],
                                                        strides=[4, 8, 16, 32, 64])),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50, nms=dict(type='nms', iou_threshold=0.7)),
                  rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=12)))
launcher = 'none'
"""
VERSION_2 = """
import os
norm = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='Normalize', **norm)]
limits = dict(rpn=dict(nms_pre=200, max_per_img=50), rcnn=dict(max_per_img=12))
model = dict(type='MaskRCNN', backbone=dict(type='ResNet', depth=101, style='caffe'), test_cfg=limits,
             init_cfg=os.environ.get('WEIGHTS'))
"""

VERSIONS = {
    2: Recipe(depth=101),
    3: Recipe(stride_in_1x1=False, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), format="RGB"),
}
"""Recipes of the two configurations above."""


def mmdetection_state(recipe: Recipe) -> dict[str, Any]:
    """The weights of a model under MMDetection's names."""
    state = {}
    for name, value in make_state(recipe).items():
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        state[name] = value
    return state


def mmdetection_record(version: int, names: tuple[str, ...]) -> dict[str, Any]:
    """A checkpoint as a training of MMDetection leaves it."""
    new = {"dataset_meta": {"classes": names}, "cfg": VERSION_3}
    meta = new if version == 3 else {"CLASSES": names, "config": VERSION_2}
    return {"meta": meta, "state_dict": mmdetection_state(VERSIONS[version])}

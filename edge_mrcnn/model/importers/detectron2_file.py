"""Detectron2's Mask R-CNN on a ResNet FPN (github.com/facebookresearch/detectron2): `model_final.pth` and zoo `.pkl`.

Weights are renamed, the first convolution is converted to RGB and ImageNet's deviation, and background becomes class 0.
Other settings come from the configuration that Detectron2 writes beside the weights: position of the strides, anchors,
RoIAlign, thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_mrcnn.model.importers.detectron2_config import merged, own_settings, plain_value
from edge_mrcnn.model.importers.imported import (
    ANCHOR_LEVELS,
    COCO_CLASSES,
    Imported,
    Normalisation,
    Project,
    Rename,
    Settings,
    State,
    base_config,
    coco_classes,
    finish_weights,
    numbered_classes,
    ordered,
    resnet_depth,
)
from runtimes.errors import ModelFileError

_BODY, _FPN, _RPN = "backbone.body", "backbone.fpn", "rpn.head"


def _block(match: re.Match[str]) -> str:
    """Our name of a block: Detectron2 counts stages by their stride, from res2 on."""
    return f"{_BODY}.layer{int(match[1]) - 1}.{match[2]}"


RENAMES: tuple[Rename, ...] = (
    (r"backbone\.bottom_up\.stem\.conv1\.weight", rf"{_BODY}.conv1.weight"),
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(\w+)", rf"{_BODY}.bn1.\1"),
    (r"backbone\.bottom_up\.res([2-5])\.(\d+)\.conv([1-3])\.weight", lambda m: f"{_block(m)}.conv{m[3]}.weight"),
    (r"backbone\.bottom_up\.res([2-5])\.(\d+)\.conv([1-3])\.norm\.(\w+)", lambda m: f"{_block(m)}.bn{m[3]}.{m[4]}"),
    (r"backbone\.bottom_up\.res([2-5])\.(\d+)\.shortcut\.weight", lambda m: f"{_block(m)}.downsample.0.weight"),
    (r"backbone\.bottom_up\.res([2-5])\.(\d+)\.shortcut\.norm\.(\w+)", lambda m: f"{_block(m)}.downsample.1.{m[3]}"),
    (r"backbone\.fpn_lateral([2-5])\.(weight|bias)", lambda m: f"{_FPN}.inner_blocks.{int(m[1]) - 2}.0.{m[2]}"),
    (r"backbone\.fpn_output([2-5])\.(weight|bias)", lambda m: f"{_FPN}.layer_blocks.{int(m[1]) - 2}.0.{m[2]}"),
    (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", rf"{_RPN}.conv.0.0.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(weight|bias)", rf"{_RPN}.cls_logits.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(weight|bias)", rf"{_RPN}.bbox_pred.\1"),
    (r"roi_heads\.box_head\.fc1\.(weight|bias)", r"roi_heads.box_head.fc6.\1"),
    (r"roi_heads\.box_head\.fc2\.(weight|bias)", r"roi_heads.box_head.fc7.\1"),
    (r"(roi_heads\.box_predictor\.(?:cls_score|bbox_pred)\.(?:weight|bias))", r"\1"),
    (
        r"roi_heads\.mask_head\.mask_fcn([1-4])\.(weight|bias)",
        lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.{m[2]}",
    ),
    (r"roi_heads\.mask_head\.deconv\.(weight|bias)", r"roi_heads.mask_predictor.conv5_mask.\1"),
    (r"roi_heads\.mask_head\.predictor\.(weight|bias)", r"roi_heads.mask_predictor.mask_fcn_logits.\1"),
)
"""Detectron2's names -> ours."""
CONSTANTS = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.cell_anchors.")
"""Prefixes of entries besides the weights; the configuration has them as well."""

PARTS = (
    ("roi_heads.box_predictor.0.", "a Cascade R-CNN's box heads"),
    ("roi_heads.box_head.0.", "a Cascade R-CNN's box heads"),
    ("roi_heads.res5.", "a C4 or DC5 backbone"),
    ("roi_heads.keypoint_head.", "a keypoint head"),
    ("roi_heads.mask_head.coarse_head.", "a PointRend mask head"),
    ("roi_heads.mask_head.point_head.", "a PointRend mask head"),
    ("roi_heads.mask_coarse_head.", "a PointRend mask head"),
    ("sem_seg_head.", "a panoptic head"),
    ("head.cls_subnet.", "the head of RetinaNet"),
    ("roi_heads.box_head.conv", "convolutions in the box head (ROI_BOX_HEAD.NUM_CONV)"),
    ("proposal_generator.rpn_head.conv.conv", "several convolutions in the RPN head (RPN.CONV_DIMS)"),
)
"""Prefixes of names without counterpart here -> description."""

COUNTS = (
    (r"box_head\.fc", 2, "layers in the box head (ROI_BOX_HEAD.NUM_FC)"),
    (r"mask_head\.mask_fcn", 4, "convolutions in the mask head (ROI_MASK_HEAD.NUM_CONV)"),
)
"""Numbered layers, the required number, and their description."""

EXPECTED: tuple[tuple[str, Any, str], ...] = (
    ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "{} (META_ARCHITECTURE)"),
    ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "the backbone {}"),
    ("MODEL.RESNETS.NUM_GROUPS", 1, "a ResNeXt backbone of {} groups"),
    ("MODEL.RESNETS.WIDTH_PER_GROUP", 64, "a wide ResNet (WIDTH_PER_GROUP {})"),
    ("MODEL.RESNETS.RES5_DILATION", 1, "a dilated backbone (RES5_DILATION {})"),
    ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False] * 4, "deformable convolutions"),
    ("MODEL.FPN.FUSE_TYPE", "sum", "an FPN that takes the {}"),
    ("MODEL.FPN.NORM", "", "{} norm layers in the FPN"),
    ("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "an FPN on {}"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "RPN", "the proposals of {}"),
    ("MODEL.RPN.HEAD_NAME", "StandardRPNHead", "the RPN head {}"),
    ("MODEL.RPN.CONV_DIMS", [-1], "RPN convolutions {}"),
    ("MODEL.RPN.BBOX_REG_WEIGHTS", [1.0] * 4, "RPN.BBOX_REG_WEIGHTS {}"),
    ("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator", "{}"),
    ("MODEL.ANCHOR_GENERATOR.OFFSET", 0.0, "anchors displaced by {}"),
    ("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "{}"),
    ("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "the box head {}"),
    ("MODEL.ROI_BOX_HEAD.NUM_CONV", 0, "{} convolutions in the box head (ROI_BOX_HEAD.NUM_CONV)"),
    ("MODEL.ROI_BOX_HEAD.NUM_FC", 2, "{} layers in the box head (ROI_BOX_HEAD.NUM_FC)"),
    ("MODEL.ROI_BOX_HEAD.NORM", "", "{} norm layers in the box head"),
    ("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7, "ROI_BOX_HEAD.POOLER_RESOLUTION {}"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", [10.0, 10.0, 5.0, 5.0], "ROI_BOX_HEAD.BBOX_REG_WEIGHTS {}"),
    ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False, "one box regression for all classes (CLS_AGNOSTIC_BBOX_REG)"),
    ("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", False, "a sigmoid for each class (USE_SIGMOID_CE)"),
    ("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead", "the mask head {}"),
    ("MODEL.ROI_MASK_HEAD.NUM_CONV", 4, "{} convolutions in the mask head (ROI_MASK_HEAD.NUM_CONV)"),
    ("MODEL.ROI_MASK_HEAD.NORM", "", "{} norm layers in the mask head"),
    ("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14, "ROI_MASK_HEAD.POOLER_RESOLUTION {}"),
    ("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", False, "one mask for all classes (CLS_AGNOSTIC_MASK)"),
)
"""Settings that must have this value if the configuration has them, and the description of a model with another one."""

PROJECT = Project(name="Detectron2's", renames=RENAMES, constants=CONSTANTS, parts=PARTS, expected=EXPECTED)

NORMS = ("", "FrozenBN", "BN", "SyncBN", "nnSyncBN", "naiveSyncBN")
"""Norm layers of the backbone that are BatchNorm at inference."""
POOLERS = {"ROIAlignV2": True, "ROIAlign": False}
"""Detectron2's poolers -> whether they are aligned."""


def is_own(state: Mapping[str, Any]) -> bool:
    """Whether names of weights are Detectron2's."""
    return any(key.startswith(("backbone.bottom_up.", "proposal_generator.", "roi_heads.res5.")) for key in state)


def convert(path: Path, state: Mapping[str, Any], config: dict[str, Any] | None) -> Imported:
    """A Detectron2 model in our names.

    Args:
        path: Path of its file, for messages.
        state: Its weights, tensors or arrays.
        config: Its configuration; Detectron2's defaults for an FPN if None.

    Raises:
        ModelFileError: If a part of it has no counterpart here, or the configuration belongs to another model.
    """
    settings = Detectron2Settings(path, PROJECT, merged(own_settings(state), config or {}))
    fields = settings.read()
    tensors = {key: as_tensor(value) for key, value in PROJECT.without_constants(state).items()}
    PROJECT.refuse_parts(path, tensors)
    _refuse_layers(path, tensors)
    weights = PROJECT.rename(path, tensors)
    depth = resnet_depth(weights)
    settings.check_weights(weights, depth)
    count = finish_weights(weights, settings.normalisation)
    classes, category_ids = coco_classes() if count == COCO_CLASSES else numbered_classes(count)
    parts = base_config(f"detectron2-r{depth}-fpn", depth).updated(**fields)
    return Imported(
        config=parts, state=weights, classes=classes, category_ids=category_ids,
        training={"imported": f"Detectron2 R{depth}-FPN", "settings": settings.frozen()},
        notes=settings.notes(config is not None),
    )  # fmt: skip


def as_tensor(value: Any) -> Tensor:
    """A tensor of a tensor or array."""
    return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))


def _refuse_layers(path: Path, state: State) -> None:
    if any(key.endswith("conv2_offset.weight") for key in state):
        PROJECT.refuse(path, "deformable convolutions")
    for key, value in state.items():
        if key.endswith(".conv2.weight") and key.startswith("backbone.bottom_up.") and value.shape[0] != value.shape[1]:
            PROJECT.refuse(path, f"a ResNeXt backbone of {value.shape[0] // value.shape[1]} groups")
        is_norm = key.endswith(".norm.weight") and key.replace(".weight", ".running_var") not in state
        if is_norm:
            PROJECT.refuse(path, f"GroupNorm ({key.removesuffix('.weight')})")
    if not any(key.startswith("roi_heads.mask_head.") for key in state):
        PROJECT.refuse(path, "no mask head (a Faster R-CNN)")
    for layer, expected, name in COUNTS:
        found = sum(bool(re.fullmatch(rf"roi_heads\.{layer}\d\.weight", key)) for key in state)
        if found != expected:
            PROJECT.refuse(path, f"{found} {name}")


class Detectron2Settings(Settings):
    """What a configuration says, with Detectron2's defaults for an FPN where it says nothing."""

    def get(self, name: str, default: Any) -> Any:
        """A setting by its dotted name."""
        return plain_value(super().get(name, default))

    def check(self) -> None:
        """Raise ModelFileError where a setting has no counterpart here."""
        super().check()
        if (norm := self.get("MODEL.RESNETS.NORM", "FrozenBN")) not in NORMS:
            self.refuse(f"{norm} norm layers in the backbone")
        if self._pooler("BOX") != self._pooler("MASK"):
            self.refuse("different poolers for boxes and masks")
        if self._pooler("BOX")[0] not in POOLERS:
            self.refuse(f"the pooler {self._pooler('BOX')[0]}")
        sizes, ratios = self._levels("SIZES", [[32]]), self._levels("ASPECT_RATIOS", [[]])
        if any(len(level) != 1 for level in sizes):
            self.refuse(f"several sizes of anchors on one level ({sizes})")
        if len(sizes) not in (1, ANCHOR_LEVELS):
            self.refuse(f"anchors on {len(sizes)} levels ({sizes})")
        if any(level != ratios[0] for level in ratios):
            self.refuse(f"other aspect ratios of anchors on each level ({ratios})")

    def check_weights(self, weights: State, depth: int) -> None:
        """Raise ModelFileError where weights are incomplete, of an unknown depth, or not those of the configuration."""
        self.expect_depth(depth)
        stated = self.get("MODEL.RESNETS.DEPTH", depth)
        classes = len(weights.get("roi_heads.box_predictor.cls_score.bias", [])) - 1
        named = self.get("MODEL.ROI_HEADS.NUM_CLASSES", classes)
        if (stated, named) != (depth, classes):
            raise ModelFileError(
                f"{self.path}: has a ResNet of {depth} layers and {classes} classes, its configuration says {stated} "
                f"and {named}; give the configuration of this file's training"
            )

    @property
    def normalisation(self) -> Normalisation:
        """How pictures are prepared; the numbers of a configuration are in the order of its channels."""
        is_bgr = self.get("INPUT.FORMAT", "BGR") == "BGR"
        mean = self.get("MODEL.PIXEL_MEAN", (103.53, 116.28, 123.675))
        std = self.get("MODEL.PIXEL_STD", (1.0, 1.0, 1.0))
        return Normalisation(mean_rgb=ordered(mean, is_bgr), std_rgb=ordered(std, is_bgr), is_bgr=is_bgr)

    def model_settings(self) -> dict[str, Any]:
        """Fields of `ModelConfig`."""
        pooler, samples = self._pooler("BOX")
        sizes = tuple(float(size) for (size,) in self._levels("SIZES", []))
        ratios = self._levels("ASPECT_RATIOS", [[0.5, 1.0, 2.0]])
        return {
            "stride_in_1x1": bool(self.get("MODEL.RESNETS.STRIDE_IN_1X1", True)),
            "image_mean": self.normalisation.image_mean,
            "anchor_sizes": sizes * 5 if len(sizes) == 1 else sizes,
            "anchor_ratios": tuple(float(ratio) for ratio in ratios[0]),
            "roi_aligned": POOLERS[pooler],
            "roi_samples": int(samples),
            "proposals": int(self.get("MODEL.RPN.POST_NMS_TOPK_TEST", 1000)),
            "proposals_per_level": int(self.get("MODEL.RPN.PRE_NMS_TOPK_TEST", 1000)),
            "proposal_iou": float(self.get("MODEL.RPN.NMS_THRESH", 0.7)),
            "max_detections": int(self.get("TEST.DETECTIONS_PER_IMAGE", 100)),
            "score_threshold": float(self.get("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.05)),
            "iou_threshold": float(self.get("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.5)),
        }

    def frozen(self) -> dict[str, Any]:
        """What its training froze, as fields of `TrainConfig`; both count the stem as the first stage."""
        return {
            "freeze_norm": self.get("MODEL.RESNETS.NORM", "FrozenBN") == "FrozenBN",
            "freeze_stages": int(self.get("MODEL.BACKBONE.FREEZE_AT", 2)),
        }

    def notes(self, has_config: bool) -> tuple[str, ...]:
        """What was assumed."""
        short, long = self.get("INPUT.MIN_SIZE_TEST", 800), self.get("INPUT.MAX_SIZE_TEST", 1333)
        trained = (
            f"Detectron2 resizes images to {short} px on the shorter side and at most {long} px on the longer; "
            "here the input size is fixed, see --imgsz"
        )
        if has_config:
            return (trained,)
        return (
            "no configuration: Detectron2's defaults are assumed, a stride in the 1x1 convolutions (MSRA's weights), "
            "BGR, anchors of 32 to 512 px, aligned RoIAlign; give --config config.yaml",
            trained,
        )

    def _levels(self, name: str, default: list[list[float]]) -> list[list[float]]:
        """A setting of the anchors for each level; in Detectron2 a list of numbers is for all levels."""
        values = self.get(f"MODEL.ANCHOR_GENERATOR.{name}", default)
        is_flat = any(isinstance(value, int | float) for value in values)
        return [list(level) for level in ([values] if is_flat else values)]

    def _pooler(self, head: str) -> tuple[str, int]:
        prefix = f"MODEL.ROI_{head}_HEAD"
        return self.get(f"{prefix}.POOLER_TYPE", "ROIAlignV2"), self.get(f"{prefix}.POOLER_SAMPLING_RATIO", 0)

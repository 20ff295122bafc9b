"""MMDetection's Mask R-CNN on a ResNet FPN, versions 2 and 3 (github.com/open-mmlab/mmdetection).

The names differ from Detectron2's, the arithmetic does not. Other settings come from the configuration, which training
writes into the checkpoint: position of the strides (`style`), image normalisation, thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_mrcnn.model.importers.imported import (
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
from edge_mrcnn.model.importers.literals import parse_literals
from runtimes.errors import ModelFileError

_BODY, _FPN, _RPN = "backbone.body", "backbone.fpn", "rpn.head"
_BOX, _MASK = r"roi_head\.bbox_head", r"roi_head\.mask_head"
RENAMES: tuple[Rename, ...] = (
    (r"backbone\.(conv1\.weight)", rf"{_BODY}.\1"),
    (r"backbone\.(bn1\.\w+)", rf"{_BODY}.\1"),
    (r"backbone\.(layer[1-4]\.\d+\.conv[1-3]\.weight)", rf"{_BODY}.\1"),
    (r"backbone\.(layer[1-4]\.\d+\.bn[1-3]\.\w+)", rf"{_BODY}.\1"),
    (r"backbone\.(layer[1-4]\.\d+\.downsample\.[01]\.\w+)", rf"{_BODY}.\1"),
    (r"neck\.lateral_convs\.([0-3])\.conv\.(weight|bias)", rf"{_FPN}.inner_blocks.\1.0.\2"),
    (r"neck\.fpn_convs\.([0-3])\.conv\.(weight|bias)", rf"{_FPN}.layer_blocks.\1.0.\2"),
    (r"rpn_head\.rpn_conv\.(weight|bias)", rf"{_RPN}.conv.0.0.\1"),
    (r"rpn_head\.rpn_cls\.(weight|bias)", rf"{_RPN}.cls_logits.\1"),
    (r"rpn_head\.rpn_reg\.(weight|bias)", rf"{_RPN}.bbox_pred.\1"),
    (rf"{_BOX}\.shared_fcs\.([01])\.(weight|bias)", lambda m: f"roi_heads.box_head.fc{int(m[1]) + 6}.{m[2]}"),
    (rf"{_BOX}\.fc_cls\.(weight|bias)", r"roi_heads.box_predictor.cls_score.\1"),
    (rf"{_BOX}\.fc_reg\.(weight|bias)", r"roi_heads.box_predictor.bbox_pred.\1"),
    (rf"{_MASK}\.convs\.([0-3])\.conv\.(weight|bias)", r"roi_heads.mask_head.\1.0.\2"),
    (rf"{_MASK}\.upsample\.(weight|bias)", r"roi_heads.mask_predictor.conv5_mask.\1"),
    (rf"{_MASK}\.conv_logits\.(weight|bias)", r"roi_heads.mask_predictor.mask_fcn_logits.\1"),
)
"""MMDetection's names -> ours."""
CONSTANTS = ("data_preprocessor.", "ema_")
"""Prefixes of entries besides the weights: pixel statistics, and copies of version 2 for a moving average."""

PARTS = (
    ("roi_head.bbox_head.0.", "a Cascade R-CNN's box heads"),
    ("roi_head.mask_head.0.", "a Cascade R-CNN's or PointRend's mask heads"),
    ("roi_head.shared_head.", "a C4 backbone"),
    ("roi_head.mask_iou_head.", "a mask scoring head"),
    ("roi_head.point_head.", "a PointRend mask head"),
    ("roi_head.semantic_head.", "a Hybrid Task Cascade"),
    ("roi_head.bbox_head.shared_convs.", "convolutions in the box head"),
    ("roi_head.bbox_head.shared_fcs.2.", "more than two layers in the box head"),
    ("roi_head.mask_head.convs.4.", "more than four convolutions in the mask head"),
    ("bbox_head.shared_fcs.", "the names of MMDetection 1 (its upgrade_model_version.py converts the file)"),
    ("bbox_head.", "a one-stage head"),
    ("mask_head.", "a one-stage mask head"),
    ("backbone.stages.", "a Swin or ConvNeXt backbone"),
    ("backbone.stem.", "a ResNet with a deep stem"),
)
"""Prefixes of names without counterpart here -> description."""

EXPECTED: tuple[tuple[str, Any, str], ...] = (
    ("type", "MaskRCNN", "the architecture {}"),
    ("backbone.type", "ResNet", "the backbone {}"),
    ("neck.type", "FPN", "the neck {}"),
    ("neck.num_outs", 5, "an FPN of {} maps"),
    ("neck.add_extra_convs", False, "extra convolutions in the FPN"),
    ("rpn_head.type", "RPNHead", "the proposals of {}"),
    ("roi_head.type", "StandardRoIHead", "{}"),
    ("roi_head.bbox_head.type", "Shared2FCBBoxHead", "the box head {}"),
    ("roi_head.bbox_head.reg_class_agnostic", False, "one box regression for all classes (reg_class_agnostic)"),
    ("roi_head.mask_head.type", "FCNMaskHead", "the mask head {}"),
    ("roi_head.mask_head.num_convs", 4, "{} convolutions in the mask head"),
    ("roi_head.mask_head.class_agnostic", False, "one mask for all classes (class_agnostic)"),
    ("roi_head.bbox_roi_extractor.type", "SingleRoIExtractor", "the RoI extractor {}"),
    ("roi_head.bbox_roi_extractor.roi_layer.type", "RoIAlign", "the pooler {}"),
    ("roi_head.mask_roi_extractor.roi_layer.type", "RoIAlign", "the pooler {}"),
    ("roi_head.bbox_roi_extractor.roi_layer.output_size", 7, "box features of {} cells"),
    ("roi_head.mask_roi_extractor.roi_layer.output_size", 14, "mask features of {} cells"),
    ("rpn_head.anchor_generator.type", "AnchorGenerator", "{}"),
    ("rpn_head.anchor_generator.strides", [4, 8, 16, 32, 64], "anchors at strides {}"),
    ("rpn_head.bbox_coder.target_stds", [1.0] * 4, "a box coder of the RPN with deviations {}"),
    ("roi_head.bbox_head.bbox_coder.target_stds", [0.1, 0.1, 0.2, 0.2], "a box coder with deviations {}"),
    ("test_cfg.rcnn.nms.type", "nms", "{}"),
)
"""Settings of `model` that must have this value if the configuration has them, and the description of a model with
another one."""

PROJECT = Project(name="MMDetection's", renames=RENAMES, constants=CONSTANTS, parts=PARTS, expected=EXPECTED)

STRIDES = (4.0, 8.0, 16.0, 32.0, 64.0)
"""Strides of the pyramid levels; anchors are multiples of them."""


def is_own(state: Mapping[str, Any]) -> bool:
    """Whether names of weights are MMDetection's."""
    return any(key.startswith(("neck.", "roi_head.", "rpn_head.")) for key in state)


def find_config(record: Any) -> dict[str, Any] | None:
    """The configuration in a checkpoint, None if there is none."""
    meta = record.get("meta") if isinstance(record, Mapping) else None
    text = meta.get("cfg", meta.get("config")) if isinstance(meta, Mapping) else None
    return parse_literals(text) if isinstance(text, str) else None


def find_classes(record: Any) -> tuple[str, ...] | None:
    """The class names in a checkpoint, None if there are none."""
    meta = record.get("meta") if isinstance(record, Mapping) else None
    if not isinstance(meta, Mapping):
        return None
    data_set = meta.get("dataset_meta")
    found = [meta.get("CLASSES")]
    found += [data_set.get("classes"), data_set.get("CLASSES")] if isinstance(data_set, Mapping) else []
    names = next((names for names in found if isinstance(names, list | tuple)), None)
    return tuple(map(str, names)) if names else None


def convert(
    path: Path, state: Mapping[str, Any], config: dict[str, Any] | None, names: tuple[str, ...] | None = None
) -> Imported:
    """An MMDetection model in our names.

    Args:
        path: Path of its file, for messages.
        state: Its weights.
        config: Its configuration; MMDetection's defaults if None.
        names: Class names, if the file has them.

    Raises:
        ModelFileError: If a part of it has no counterpart here, or the configuration belongs to another model.
    """
    settings = MmdetectionSettings(path, config or {})
    fields = settings.read()
    tensors = PROJECT.without_constants(state)
    PROJECT.refuse_parts(path, tensors)
    _refuse_layers(path, tensors)
    weights = PROJECT.rename(path, tensors)
    depth = resnet_depth(weights)
    settings.check_depth(depth)
    classes, category_ids = _name(finish_weights(weights, settings.normalisation), names)
    parts = base_config(f"mmdetection-r{depth}-fpn", depth).updated(**fields)
    return Imported(
        config=parts, state=weights, classes=classes, category_ids=category_ids,
        training={"imported": f"MMDetection R{depth}-FPN", "settings": settings.frozen()},
        notes=settings.notes(config is not None),
    )  # fmt: skip


def _name(count: int, names: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids of this number of classes: the file's own names, with COCO's ids if they are COCO's."""
    numbered, numbers = numbered_classes(count)
    if count != COCO_CLASSES:
        return (names, numbers) if names and len(names) == count else (numbered, numbers)
    usual, ids = coco_classes()
    return (usual, ids) if names is None or names == usual or len(names) != count else (names, numbers)


def _refuse_layers(path: Path, state: State) -> None:
    for key, value in state.items():
        is_grouped = re.fullmatch(r"backbone\.layer\d\.\d+\.conv2\.weight", key) and value.shape[0] != value.shape[1]
        if is_grouped:
            PROJECT.refuse(path, f"a ResNeXt backbone of {value.shape[0] // value.shape[1]} groups")
        if re.search(r"\.(gn|bn)\.weight$", key):
            PROJECT.refuse(path, f"norm layers outside the backbone ({key.removesuffix('.weight')})")
        if ".conv2_offset." in key or ".conv_offset." in key:
            PROJECT.refuse(path, "deformable convolutions")
    if not any(key.startswith("roi_head.mask_head.") for key in state):
        PROJECT.refuse(path, "no mask head (a Faster R-CNN)")


class MmdetectionSettings(Settings):
    """Settings of a configuration, with MMDetection's defaults for missing ones."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        """

        Args:
            path: The checkpoint, for messages.
            config: Its configuration: `model`, and the image pipeline.
        """
        super().__init__(path, PROJECT, config.get("model", {}))
        self.whole = config

    def check(self) -> None:
        """Raise ModelFileError if a setting has no counterpart here."""
        super().check()
        if self._pooler("bbox") != self._pooler("mask"):
            self.refuse("different poolers for boxes and masks")

    def check_depth(self, depth: int) -> None:
        """Raise ModelFileError if the ResNet has an unknown depth, or not that of the configuration."""
        self.expect_depth(depth)
        if (stated := self.get("backbone.depth", depth)) != depth:
            raise ModelFileError(
                f"{self.path}: has a ResNet of {depth} layers, its configuration says {stated}; give the "
                "configuration of this file's training"
            )

    @property
    def normalisation(self) -> Normalisation:
        """Image normalisation: version 3 has it in the model, version 2 in the pipeline."""
        found = self.config.get("data_preprocessor") or self.whole.get("img_norm_cfg") or self._normalize_step() or {}
        swaps = found.get("bgr_to_rgb", found.get("to_rgb", True))
        mean = found.get("mean", (123.675, 116.28, 103.53))
        std = found.get("std", (58.395, 57.12, 57.375))
        is_bgr = not swaps
        return Normalisation(mean_rgb=ordered(mean, is_bgr), std_rgb=ordered(std, is_bgr), is_bgr=is_bgr)

    def model_settings(self) -> dict[str, Any]:
        """Fields of `ModelConfig`."""
        aligned, samples = self._pooler("bbox")
        scales = self._anchor_scales()
        ratios = self.get("rpn_head.anchor_generator.ratios", [0.5, 1.0, 2.0])
        rpn, rcnn = self.get("test_cfg.rpn", {}), self.get("test_cfg.rcnn", {})
        return {
            "stride_in_1x1": self.get("backbone.style", "pytorch") == "caffe",
            "image_mean": self.normalisation.image_mean,
            "anchor_sizes": tuple(stride * float(scale) for stride in STRIDES for scale in scales),
            "anchor_ratios": tuple(map(float, ratios)),
            "roi_aligned": aligned,
            "roi_samples": samples,
            "proposals": int(rpn.get("max_per_img", 1000)),
            "proposals_per_level": int(rpn.get("nms_pre", 1000)),
            "proposal_iou": _iou(rpn, 0.7),
            "max_detections": int(rcnn.get("max_per_img", 100)),
            "score_threshold": float(rcnn.get("score_thr", 0.05)),
            "iou_threshold": _iou(rcnn, 0.5),
        }

    def frozen(self) -> dict[str, Any]:
        """Frozen parts of its training, as fields of `TrainConfig`; MMDetection's stage 0 is the stem."""
        return {
            "freeze_norm": bool(self.get("backbone.norm_eval", True)),
            "freeze_stages": int(self.get("backbone.frozen_stages", -1)) + 1,
        }

    def notes(self, has_config: bool) -> tuple[str, ...]:
        """Assumptions."""
        trained = (
            "MMDetection resizes images by their shorter and longer side; here the input size is fixed, see --imgsz"
        )
        if has_config:
            return (trained,)
        return (
            "no configuration in the file: MMDetection's defaults are assumed, a stride in the 3x3 convolutions "
            "(style='pytorch'), RGB with ImageNet's mean, anchors of 32 to 512 px; give --config CONFIG.py",
            trained,
        )

    def _anchor_scales(self) -> list[float]:
        """Sizes of the anchors as multiples of their level's stride."""
        anchors = "rpn_head.anchor_generator"
        if (base := self.get(f"{anchors}.octave_base_scale", None)) is None:
            return list(self.get(f"{anchors}.scales", [8]))
        steps = int(self.get(f"{anchors}.scales_per_octave", 1))
        return [base * 2 ** (step / steps) for step in range(steps)]

    def _pooler(self, head: str) -> tuple[bool, int]:
        layer = self.get(f"roi_head.{head}_roi_extractor.roi_layer", {})
        return bool(layer.get("aligned", True)), int(layer.get("sampling_ratio", 0))

    def _normalize_step(self) -> Mapping[str, Any] | None:
        """The normalisation step in the training pipeline of version 2."""
        steps = self.whole.get("train_pipeline", ())
        return next((step for step in steps if isinstance(step, Mapping) and step.get("type") == "Normalize"), None)


def _iou(settings: Mapping[str, Any], default: float) -> float:
    """The threshold of NMS; early versions had it beside the settings of `nms`."""
    nms = settings.get("nms", {})
    return float(nms.get("iou_threshold", settings.get("nms_thr", default)))

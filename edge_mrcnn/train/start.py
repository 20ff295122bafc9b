"""Start of a training: a preset with new weights, or an earlier checkpoint."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_mrcnn.config import STAGES, ModelConfig, TrainConfig, default_anchor_sizes, preset
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, restore_model
from edge_mrcnn.model.class_rows import compare_classes, map_classes
from edge_mrcnn.model.importers.origin import Origin
from edge_mrcnn.model.mask_rcnn import RESNETS, build_model, state_input
from edge_mrcnn.train.laterals import fit_laterals, regression_images
from runtimes.errors import UsageError
from runtimes.progress import Say, silent_lines

log = logging.getLogger(__name__)


def start(
    data: CocoData,
    *,
    model: str = "nano",
    weights: str | Path | None = None,
    backbone: str | None = None,
    pretrained: bool = False,
    backbone_weights: str | Path | None = None,
    origin: Origin | None = None,
    seed: int = 0,
    say: Say = silent_lines,
    **parts: Any,
) -> Checkpoint:
    """The checkpoint that a training starts from.

    Args:
        data: Training data.
        model: Name of a preset.
        weights: An earlier checkpoint, in place of a preset.
        backbone: Another backbone than the preset's or the checkpoint's.
        pretrained: Download ImageNet weights of the backbone.
        backbone_weights: File with weights of the backbone.
        origin: Information that a checkpoint of another project does not contain.
        seed: Random seed of new weights.
        say: Called with a line about the quality of the pyramid on a changed backbone.
        parts: Other fields of `ModelConfig` to change.

    Raises:
        UsageError: If a part determines the shape of trained weights, or does not fit the model.
        MissingFileError, ModelFileError: As `load_checkpoint` does.
    """
    if not weights:
        named = parts if backbone is None else {**parts, "backbone": backbone}
        return start_fresh(preset(model).updated(**named), data, seed, pretrained, backbone_weights)
    checkpoint = continue_from(weights, data, origin=origin, **parts)
    has_weights = pretrained or backbone_weights is not None
    if not backbone or (backbone == checkpoint.config.backbone and not has_weights):
        return checkpoint
    exchanged = exchange_backbone(
        checkpoint, backbone, seed=seed, pretrained=pretrained, backbone_weights=backbone_weights
    )
    if has_weights:
        _fit_laterals(exchanged, checkpoint, data, say)
    return exchanged


def _fit_laterals(exchanged: Checkpoint, before: Checkpoint, data: CocoData, say: Say) -> None:
    """Fit the pyramid on a new backbone with weights to the old one."""
    images = regression_images(data, exchanged.config.image_size_hw)
    explained = fit_laterals(exchanged.model, before.model, images)
    shares = ", ".join(f"{100 * share:.0f}" for share in explained)
    say(
        f"lateral layers fitted to {exchanged.config.backbone}: their maps explain {shares} % of the variance of the "
        "old maps, finest level first"
    )


def start_fresh(
    config: ModelConfig, data: CocoData, seed: int, pretrained: bool, backbone_weights: str | Path | None
) -> Checkpoint:
    """A model of the given parts for the classes of the data; weights depend only on the seed."""
    torch.manual_seed(seed)
    if config.backbone not in RESNETS and not config.anchor_sizes:
        config = replace(config, anchor_sizes=default_anchor_sizes(config))
    model = build_model(config, len(data.classes), pretrained=pretrained, backbone_weights=backbone_weights)
    config = state_input(config, model)
    return Checkpoint(model=model, config=config, classes=data.classes, category_ids=data.category_ids)


def keep_frozen(config: TrainConfig, checkpoint: Checkpoint) -> TrainConfig:
    """Settings with explicit values for freezing; missing ones are taken from the checkpoint's own training."""
    earlier = checkpoint.training.get("settings", {})
    stages, norm = config.freeze_stages, config.freeze_norm
    if stages is None:
        stages = min(earlier.get("freeze_stages") or 0, STAGES)
    if norm is None:
        norm = bool(earlier.get("freeze_norm"))
    return replace(config, freeze_stages=stages, freeze_norm=norm)


def describe_frozen(config: TrainConfig) -> str:
    """Description of the frozen parts of the backbone, from settings of `keep_frozen`."""
    count = STAGES if config.freeze_stages == -1 else config.freeze_stages
    norms = "norms frozen" if config.freeze_norm else "norms trained"
    return f"{count} of {STAGES} backbone stages frozen, {norms}"


def continue_from(path: str | Path, data: CocoData, *, origin: Origin | None = None, **parts: Any) -> Checkpoint:
    """An earlier checkpoint, for further training.

    If its classes differ from the data's, the rows of its predictors are kept by name, and new classes get new ones;
    the result is logged. All other weights are kept.

    Args:
        path: As of `load_checkpoint`.
        data: Data of the next training.
        origin: Information that a checkpoint of another project does not contain.
        parts: Fields of `ModelConfig` to change; None keeps one.

    Raises:
        UsageError: If one of them determines the shape of trained weights.
    """
    checkpoint = load_checkpoint(path, origin)
    config = checkpoint.config.updated(**parts)
    if config != checkpoint.config:
        _refuse_other_shapes(checkpoint.config, config)
        model = restore_model(config, len(checkpoint.classes), checkpoint.model.state_dict())
        checkpoint = replace(checkpoint, config=config, model=model)
    if checkpoint.classes != data.classes:
        log.warning("%s", compare_classes(checkpoint.classes, data.classes))
    return map_classes(checkpoint, data.classes, data.category_ids)


def _refuse_other_shapes(trained: ModelConfig, asked: ModelConfig) -> None:
    for name in OF_WEIGHTS:
        old, new = getattr(trained, name), getattr(asked, name)
        if old != new:
            raise UsageError(f"{name} {new}: expected {old}, because the starting weights were trained with it")


OF_WEIGHTS = ("fpn_channels", "anchor_ratios", "box_pool_size", "box_hidden", "class_agnostic_boxes", "mask_hidden")
"""Parts that determine the shape of weights, apart from the backbone."""


def exchange_backbone(
    checkpoint: Checkpoint, backbone: str, *, seed: int, pretrained: bool, backbone_weights: str | Path | None
) -> Checkpoint:
    """Put another backbone under the pyramid and heads of a trained model.

    If both backbones have the same layers except for their activations, the weights are kept as well, unless others are
    given. With the old model as the teacher, the new backbone learns to produce the feature maps that these heads
    expect.

    Raises:
        UsageError: If the rest of the model does not fit a light backbone, because it is pruned, or torchvision's own.
    """
    torch.manual_seed(seed)
    config = replace(checkpoint.config, backbone=backbone, image_mean=None, image_std=None)
    model = build_model(config, len(checkpoint.classes), pretrained=pretrained, backbone_weights=backbone_weights)
    kept = checkpoint.model.state_dict()
    named = pretrained or backbone_weights is not None
    if named or shapes_of(model.backbone) != shapes_of(checkpoint.model.backbone):
        kept = {k: v for k, v in kept.items() if not k.startswith(_OF_BACKBONE)}
    try:
        missing, unknown = model.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise UsageError(
            "--backbone: expected an unpruned model in --weights; change its backbone before pruning"
        ) from error
    if unknown or not all(key.startswith(_OF_BACKBONE) for key in missing):
        raise UsageError(
            f"--backbone: {checkpoint.config.name} of --weights has no light pyramid, so its backbone cannot be changed"
        )
    return replace(checkpoint, config=state_input(config, model), model=model, training={})


def shapes_of(module: nn.Module) -> dict[str, torch.Size]:
    """Name of each weight -> its shape."""
    return {name: value.shape for name, value in module.state_dict().items()}


_OF_BACKBONE = ("backbone.body.", "backbone.fpn.inner_blocks.")
"""Weights that depend on the backbone, lateral convolutions with its channels among them."""

"""Settings of the fine-tuning after pruning: those of the model's own training, but gentler."""

from __future__ import annotations

from typing import Any

from edge_mrcnn.config import TrainConfig

FINE_TUNING_LR = 0.5
"""Fine-tuning starts at this share of the learning rate that the model was trained with."""
FINE_TUNING: dict[str, Any] = {"epochs": 4, "warmup_steps": 20}
"""What is other than the defaults of a training."""
KEPT = (
    "batch", "optimizer", "momentum", "nesterov", "norm_decay", "bias_decay", "backbone_lr_factor", "freeze_norm",
    "rois", "roi_positive_fraction", "roi_object_iou", "roi_background_iou", "rpn_batch", "rpn_positive_fraction",
    "rpn_object_iou", "rpn_background_iou", "train_proposals", "train_proposals_per_level", "learn_crowds",
)  # fmt: skip
"""What stays as in the training of the model."""


def fine_tuning(trained: dict[str, Any], seed: int, **asked: Any) -> TrainConfig:
    """What was asked for; else as the model was trained, at half the learning rate.

    Args:
        trained: Settings of the training, as the checkpoint records them.
        seed: Of order and views.
        asked: Fields of `TrainConfig`; None where nothing was asked for.
    """
    kept = {name: trained[name] for name in KEPT if name in trained}
    own = {**FINE_TUNING, "lr": FINE_TUNING_LR * trained.get("lr", 0.0), "seed": seed}
    wanted = {name: value for name, value in asked.items() if value is not None}
    return TrainConfig(**kept | own | wanted)

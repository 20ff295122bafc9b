"""Settings of the fine-tuning after pruning: those of the model's own training, with a lower learning rate."""

from __future__ import annotations

from typing import Any

from edge_mrcnn.config import TrainConfig

FINE_TUNING_LR = 0.5
"""Learning rate of the fine-tuning, as a share of that of the training."""
FINE_TUNING: dict[str, Any] = {"epochs": 4, "warmup_steps": 20, "freeze_stages": 0}
"""Settings that differ from the defaults of a training. Stages that the training of the model kept frozen are trained
too: they lose channels, and the others have to adapt."""
KEPT = (
    "batch", "optimizer", "momentum", "nesterov", "norm_decay", "bias_decay", "backbone_lr_factor", "freeze_norm",
    "rois", "roi_positive_fraction", "roi_object_iou", "roi_background_iou", "rpn_batch", "rpn_positive_fraction",
    "rpn_object_iou", "rpn_background_iou", "train_proposals", "train_proposals_per_level", "learn_crowds",
)  # fmt: skip
"""Settings that are taken from the training of the model."""


def fine_tuning(trained: dict[str, Any], seed: int, **asked: Any) -> TrainConfig:
    """The given settings; others as in the model's training, at half the learning rate.

    Args:
        trained: Settings of the training, from the checkpoint.
        seed: Random seed of order and views.
        asked: Fields of `TrainConfig`; None for fields that were not given.
    """
    kept = {name: trained[name] for name in KEPT if name in trained}
    own = {**FINE_TUNING, "lr": FINE_TUNING_LR * trained.get("lr", 0.0), "seed": seed}
    wanted = {name: value for name, value in asked.items() if value is not None}
    return TrainConfig(**kept | own | wanted)

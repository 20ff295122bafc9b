"""Settings reject invalid values, and survive a round trip."""

from __future__ import annotations

import json

import pytest

from edge_mrcnn.config import IMAGENET_MEAN, IMAGENET_STD, PRESETS, ModelConfig, TrainConfig, preset
from runtimes.errors import ModelFileError, UsageError


@pytest.mark.parametrize("name", PRESETS)
def test_preset_survives_a_round_trip_through_json(name: str) -> None:
    config = preset(name)
    assert config.name == name
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="nano"):
        preset("giant")


def test_unknown_field_of_a_checkpoint_asks_for_an_update() -> None:
    with pytest.raises(ModelFileError, match="telepathy"):
        ModelConfig.from_dict({"telepathy": True})


def test_old_checkpoints_pool_masks_from_all_levels() -> None:
    record = ModelConfig().to_dict()
    del record["mask_levels"], record["roi_samples"]
    assert ModelConfig.from_dict(record) == ModelConfig(mask_levels=0, roi_samples=2)


def test_timm_models_of_before_keep_the_mean_that_they_were_trained_with() -> None:
    record = ModelConfig(backbone="timm:tf_efficientnet_lite0").to_dict()
    del record["image_mean"], record["image_std"]
    old = ModelConfig.from_dict(record)
    assert (old.image_mean, old.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_none_leaves_a_field_as_it_is() -> None:
    assert preset("nano").updated(backbone=None, proposals=8) == ModelConfig(proposals=8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_size_hw": (100, 128)},
        {"image_size_hw": (0, 64)},
        {"score_threshold": 1.0},
        {"iou_threshold": 0.0},
        {"proposals": 0},
        {"max_detections": 0},
    ],
)
def test_impossible_model_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        ModelConfig(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"batch": 0},
        {"optimizer": "magic"},
        {"precision": "8"},
        {"eval_every": 0},
        {"workers": -1},
        {"freeze_stages": -2},
        {"lr": -1.0},
        {"ema": 1.0},
        {"copy_paste": 1.5},
        {"schedule": "linear"},
        {"clip_norm": -1.0},
        {"patience": -1},
        {"distill_masks": -1.0},
    ],
)
def test_impossible_training_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        TrainConfig(**wrong)

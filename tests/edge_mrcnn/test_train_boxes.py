"""Objects with a box but no outline train the RPN and the box head, but not the mask head."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.config import ModelConfig, TrainConfig  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.data.augment import paste_objects  # noqa: E402
from edge_mrcnn.data.coco import CocoData  # noqa: E402
from edge_mrcnn.data.dataset import InstanceDataset, collate  # noqa: E402
from edge_mrcnn.data.outlines import Part  # noqa: E402
from edge_mrcnn.train.losses import compute_losses  # noqa: E402

STILL = TrainConfig(scale_jitter=(1.0, 1.0), flip=0.0, color_jitter=0.0)
PAD = (10, 20, 30)


def strip_outlines(toy_data: Path, folder: Path, *categories: int) -> Path:
    """The training split with boxes alone for the objects of some categories."""
    record = json.loads((toy_data / "annotations" / "instances_train.json").read_text())
    for annotation in record["annotations"]:
        if annotation["category_id"] in categories:
            del annotation["segmentation"]
    (folder / "images").symlink_to(toy_data / "images" / "train")
    (folder / "boxes.json").write_text(json.dumps(record))
    return folder / "boxes.json"


@pytest.fixture
def mixed(toy_data: Path, tmp_path: Path) -> CocoData:
    return load(strip_outlines(toy_data, tmp_path, 7), "train")


def view(data: CocoData, config: TrainConfig = STILL) -> dict[str, torch.Tensor]:
    return InstanceDataset(data, (96, 128), PAD, config).view(0, 0)[1]


def test_box_is_seen_as_scaled_and_cut_as_an_outline_is(mixed: CocoData, toy_data: Path) -> None:
    outlined = load(toy_data, "train")
    assert (mixed.count_boxes(), outlined.count_boxes()) == (5, 0)
    for config in (STILL, replace(STILL, scale_jitter=(0.6, 1.8), flip=0.5)):
        target, other = view(mixed, config), view(outlined, config)
        assert target["has_mask"].tolist() == [True, False] and other["has_mask"].tolist() == [True, True]
        assert target["labels"].tolist() == [1, 2]
        assert (target["boxes"] - other["boxes"]).abs().max() <= 1


def test_box_alone_is_never_pasted() -> None:
    square = Part(0, 0, np.ones((8, 8), np.uint8))
    picture = np.zeros((20, 20, 3), np.uint8)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        _, _, chosen = paste_objects(picture, [], picture, [square] * 3, rng, np.array([False, True, False]))
        assert chosen.tolist() == [1]
    assert len(paste_objects(picture, [], picture, [square], rng, np.array([False]))[2]) == 0


class TestLosses:
    @pytest.fixture
    def measure(self, toy_config: ModelConfig, make_lively: Callable) -> Callable:
        def losses(data: CocoData, without_mask: tuple[int, ...] = ()) -> tuple:
            model = make_lively(toy_config, 2).train()
            images, targets = collate([InstanceDataset(data, (64, 128), PAD, STILL).view(0, i) for i in (0, 1)])
            for target in targets:
                target["has_mask"] &= ~torch.isin(target["labels"], torch.tensor(without_mask))
            torch.manual_seed(0)
            found, regions = compute_losses(model, images, targets)
            sum(found.values()).backward()
            return found, regions, model

        return losses

    def test_boxes_train_the_box_head_as_outlines_do(self, measure, toy_data: Path) -> None:
        outlined, others, _ = measure(load(toy_data, "train"))
        boxes, regions, _ = measure(load(toy_data, "train"), without_mask=(2,))
        assert regions.labels.equal(others.labels) and (regions.labels == 2).any()
        for name in ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"):
            assert boxes[name] == outlined[name]
        assert boxes["loss_mask"] != outlined["loss_mask"]

    def test_mask_head_sees_outlined_objects_alone(self, measure, mixed: CocoData) -> None:
        losses, regions, _ = measure(mixed)
        assert losses["loss_mask"] > 0 and set(regions.object_labels.tolist()) == {1}
        assert {1, 2} <= set(regions.labels.tolist())

    def test_batch_without_a_mask_has_no_mask_loss(self, measure, toy_data: Path, tmp_path: Path) -> None:
        losses, regions, model = measure(load(strip_outlines(toy_data, tmp_path, 3, 7), "train"))
        assert losses["loss_mask"] == 0 and len(regions.object_labels) == 0 and losses["loss_box_reg"] > 0
        assert all(not weight.grad.any() for weight in model.roi_heads.mask_head.parameters())


def test_training_says_how_many_objects_have_a_box_only(cli: Callable, toy_data: Path, tmp_path: Path) -> None:
    file = strip_outlines(toy_data, tmp_path, 7)
    line = "--imgsz 64 --backbone repvgg_lite --fpn-channels 16 --epochs 1 --batch 2 --workers 0 --device cpu --rois 16"
    outcome = cli("train", "--data", file, *line.split(), "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "10 objects (5 with a mask, 5 with a box only)" in outcome.err

"""Every setting of the classic recipe, the files in configs/, and unchanged default training."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.cli import train as verb  # noqa: E402
from edge_mrcnn.cli.config_file import read_config  # noqa: E402
from edge_mrcnn.config import ModelConfig, TrainConfig, preset  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.export.graph import DeployGraph  # noqa: E402
from edge_mrcnn.model.mask_rcnn import build_model  # noqa: E402
from edge_mrcnn.reference import make_card  # noqa: E402
from edge_mrcnn.train.loop import train  # noqa: E402
from edge_mrcnn.train.start import start_fresh  # noqa: E402
from edge_mrcnn.train.task import MaskRCNNTask, build_optimizer, learning_rate_factor  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def model(toy_config: ModelConfig, toy_data: Path):
    return start_fresh(toy_config, load(toy_data, "train"), 0, False, None).model


class TestFiles:
    @pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
    def test_recipe_trains_three_steps(self, cli: Callable, toy_data: Path, tmp_path: Path, file: Path) -> None:
        small = "--imgsz 64 --batch 1 --workers 0 --device cpu --rois 16 --train-proposals 50 --max-steps 3"
        small += " --no-freeze-norm --freeze-stages 0"  # frozen statistics need published weights
        outcome = cli("train", "--data", toy_data, "--config", file, *small.split(), "-o", tmp_path)
        assert outcome.code == 0, outcome.err
        assert [row["step"] for row in read_metrics(tmp_path)] == ["3"]
        used, asked = (read_config(path, verb.command) for path in (tmp_path / "config.toml", file))
        typed = {"image_size_hw", "batch", "rois", "train_proposals", "max_steps", "freeze_norm", "freeze_stages"}
        assert {name: used[name] for name in asked.keys() - typed} == {n: asked[n] for n in asked.keys() - typed}

    def test_paper_is_as_it_is_printed(self) -> None:
        (file,) = [file for file in CONFIGS if "r50" in file.stem]
        recipe = read_config(file, verb.command)
        config = TrainConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in recipe.items()
                                if k in TrainConfig.__dataclass_fields__})  # fmt: skip
        rates = [config.lr * learning_rate_factor(s, config, config.max_steps) for s in (119_999, 120_000, 140_000)]
        assert rates == pytest.approx([0.02, 0.002, 0.0002]) and config.weight_decay == 1e-4


class TestKnobs:
    def test_steps_end_in_the_middle_of_an_epoch(self, toy_config, toy_data: Path, tmp_path: Path) -> None:
        data = load(toy_data, "train")
        config = TrainConfig(max_steps=4, batch=2, workers=0, precision="32")
        train(start_fresh(toy_config, data, 0, False, None), data, tmp_path, config, device="cpu")
        assert [(row["epoch"], row["step"]) for row in read_metrics(tmp_path)] == [("1", "3"), ("2", "4")]
        assert (tmp_path / "best.pt").is_file()

    def test_milestones_are_steps_or_shares(self) -> None:
        config = TrainConfig(schedule="step", warmup_steps=0, milestones=(0.5, 80), gamma=0.2)
        assert [learning_rate_factor(step, config, 100) for step in (0, 49, 50, 79, 80)] == pytest.approx(
            [1, 1, 0.2, 0.2, 0.04]
        )

    def test_warmup_begins_where_it_is_told(self) -> None:
        config = TrainConfig(warmup_steps=10, warmup_factor=0.5)
        assert [learning_rate_factor(step, config, 100) for step in (0, 5, 10)] == pytest.approx([0.5, 0.75, 1])

    def test_each_kind_of_parameter_has_its_decay(self, model) -> None:
        config = TrainConfig(weight_decay=0.1, norm_decay=0.2, bias_decay=0.3, momentum=0.8, nesterov=False)
        groups = build_optimizer(model, config).param_groups
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        assert len(decay) == len(list(model.parameters()))
        norm = next(m for m in model.backbone.fpn.modules() if isinstance(m, torch.nn.BatchNorm2d))
        assert decay[id(norm.weight)] == decay[id(norm.bias)] == 0.2
        assert (decay[id(model.rpn.head.cls_logits.weight)], decay[id(model.rpn.head.cls_logits.bias)]) == (0.1, 0.3)
        assert all(group["momentum"] == 0.8 and not group["nesterov"] for group in groups)

    def test_sampling_reaches_both_stages(self, model) -> None:
        config = TrainConfig(
            rois=32, roi_positive_fraction=0.5, roi_object_iou=0.6, roi_background_iou=0.4, rpn_batch=64,
            rpn_positive_fraction=0.25, rpn_object_iou=0.65, rpn_background_iou=0.35, train_proposals=70,
            train_proposals_per_level=90,
        )  # fmt: skip
        task = MaskRCNNTask(model, config, 10)
        rpn, heads = task.model.rpn, task.model.roi_heads
        sampler, matcher = heads.fg_bg_sampler, heads.proposal_matcher
        assert (sampler.batch_size_per_image, sampler.positive_fraction) == (32, 0.5)
        assert (matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches) == (0.6, 0.4, False)
        sampler, matcher = rpn.fg_bg_sampler, rpn.proposal_matcher
        assert (sampler.batch_size_per_image, sampler.positive_fraction) == (64, 0.25)
        assert (matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches) == (0.65, 0.35, True)
        assert (rpn._post_nms_top_n["training"], rpn._pre_nms_top_n["training"]) == (70, 90)

    def test_defaults_leave_a_model_as_it_was_built(self, model) -> None:
        rpn, heads = model.rpn, model.roi_heads
        parts = rpn.fg_bg_sampler, rpn.proposal_matcher, heads.proposal_matcher
        before = [vars(part).copy() for part in parts]
        tops = dict(rpn._pre_nms_top_n), dict(rpn._post_nms_top_n)
        MaskRCNNTask(model, TrainConfig(), 10)
        after = rpn.fg_bg_sampler, rpn.proposal_matcher, heads.proposal_matcher
        assert [vars(part) for part in after] == before and (rpn._pre_nms_top_n, rpn._post_nms_top_n) == tops
        assert vars(heads.fg_bg_sampler) == {"batch_size_per_image": 128, "positive_fraction": 0.25}

    @pytest.mark.parametrize("size", [5, 9])
    def test_box_head_pools_as_many_bins_as_asked(self, toy_config: ModelConfig, size: int, toy_data: Path) -> None:
        fresh = start_fresh(replace(toy_config, box_pool_size=size), load(toy_data, "train"), 0, False, None)
        assert fresh.model.roi_heads.box_roi_pool.output_size == (size, size)
        assert fresh.model.roi_heads.box_head[1].in_features == 16 * size**2

    @pytest.mark.parametrize("size", [7, 10])
    def test_masks_have_twice_as_many_cells_as_bins(self, toy_config: ModelConfig, size: int, toy_data: Path) -> None:
        fresh = start_fresh(replace(toy_config, mask_pool_size=size), load(toy_data, "train"), 0, False, None)
        assert make_card(fresh).mask_size == 2 * size
        with torch.inference_mode():
            masks = DeployGraph(fresh.model, fresh.config).mask(
                list(fresh.model.backbone(torch.zeros(1, 3, 64, 128)).values())[:1],
                torch.tensor([[0.0, 0, 30, 20]]), torch.tensor([1]),
            )  # fmt: skip
        assert masks.shape == (1, 2 * size, 2 * size)

    @pytest.mark.parametrize("part", ["box_pool_size", "mask_pool_size"])
    def test_bins_of_torchvisions_models_are_their_own(self, part: str) -> None:
        with pytest.raises(UsageError, match=f"{part} 9: expected .* as in torchvision's ResNet models"):
            build_model(preset("resnet50").updated(**{part: 9}), 2)

    def test_thresholds_in_the_wrong_order_are_refused(self) -> None:
        with pytest.raises(UsageError, match="rpn_background_iou 0.8: expected at most rpn_object_iou"):
            TrainConfig(rpn_background_iou=0.8)


@pytest.mark.parametrize(
    ("config", "losses"),
    [
        (TrainConfig(epochs=2), [2.68853, 2.79841]),
        (TrainConfig(epochs=2, optimizer="adamw", schedule="step", warmup_steps=1), [2.53661, 1.7304]),
    ],
)
def test_default_training_is_what_it_was(toy_data: Path, tmp_path: Path, config: TrainConfig, losses) -> None:
    """Losses of version 0.1.0, before there were these settings."""
    data = load(toy_data, "train")
    fresh = start_fresh(ModelConfig(image_size_hw=(128, 128)), data, 0, False, None)
    train(fresh, data, tmp_path, replace(config, batch=2, workers=0, precision="32"), device="cpu")
    assert [float(row["loss/total"]) for row in read_metrics(tmp_path)] == pytest.approx(losses, rel=2e-2)

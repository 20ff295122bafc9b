"""Training on toy data: output files, rejected input, and resumption without loss."""

from __future__ import annotations

import csv
import json
import math
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
callbacks = pytest.importorskip("lightning.pytorch.callbacks", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.config import ModelConfig, TrainConfig, preset  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.data.coco import CocoData  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from edge_mrcnn.reference import load_reference  # noqa: E402
from edge_mrcnn.train.callbacks import MovingAverage  # noqa: E402
from edge_mrcnn.train.checks import check_data, check_same_data, hash_data  # noqa: E402
from edge_mrcnn.train.compiling import compile_backbone  # noqa: E402
from edge_mrcnn.train.curves import draw_curves  # noqa: E402
from edge_mrcnn.train.loop import train  # noqa: E402
from edge_mrcnn.train.samples import draw_samples  # noqa: E402
from edge_mrcnn.train.start import (  # noqa: E402
    continue_from,
    describe_frozen,
    exchange_backbone,
    keep_frozen,
    start_fresh,
)
from edge_mrcnn.train.task import MaskRCNNTask, build_optimizer, learning_rate_factor, set_norm_eval  # noqa: E402
from runtimes.errors import DataError, ModelFileError, UsageError  # noqa: E402

TOY = TrainConfig(epochs=2, batch=2, workers=0, warmup_steps=2, lr=0.005, precision="32")


class StopAfter(callbacks.Callback):
    """Ctrl-C in the first step of an epoch."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_batch_start(self, trainer: object, *_: object) -> None:
        if trainer.current_epoch == self.epochs:
            raise KeyboardInterrupt


@pytest.fixture
def data(toy_data: Path) -> CocoData:
    return load(toy_data, "train")


@pytest.fixture
def validation(toy_data: Path) -> CocoData:
    return load(toy_data, "val")


@pytest.fixture
def fresh(toy_config: ModelConfig, data: CocoData) -> Callable[[], Checkpoint]:
    return lambda: start_fresh(toy_config, data, 0, False, None)


def read_metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_checkpoint(path).model.state_dict() for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_training_writes_checkpoints_metrics_and_one_line_per_epoch(fresh, data, validation, tmp_path, capfd) -> None:
    best = train(fresh(), data, tmp_path, TOY, validation=validation, device="cpu")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert [line.split("  ")[0] for line in captured.err.splitlines()] == ["epoch 1/2", "epoch 2/2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best.pt", "curves.png", "last.ckpt", "last.pt", "metrics.csv", "samples", "tensorboard"
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["epoch-01.jpg", "epoch-02.jpg"]
    assert all(p.name.startswith("events.") for p in (tmp_path / "tensorboard").iterdir())
    assert best == tmp_path / "best.pt"
    rows = read_metrics(tmp_path)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6")]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    last = load_checkpoint(tmp_path / "last.pt")
    assert (last.training["epoch"], last.training["images"]) == (2, 6)
    assert 0 <= last.training["mask_ap"] <= 1
    assert all(torch.isfinite(v).all() for v in last.model.state_dict().values())
    assert not same_weights(tmp_path / "last.pt", _saved(fresh(), tmp_path / "start.pt"))


def test_epochs_without_an_evaluation_tell_no_ap(fresh, data, validation, tmp_path) -> None:
    train(fresh(), data, tmp_path, replace(TOY, epochs=4, eval_every=2), validation=validation, device="cpu")
    assert [bool(row["val/mask_ap"]) for row in read_metrics(tmp_path)] == [False, True, False, True]


def _saved(checkpoint: Checkpoint, path: Path) -> Path:
    save_checkpoint(path, checkpoint)
    return path


def test_loss_falls(fresh, data, tmp_path) -> None:
    config = replace(TOY, epochs=8, optimizer="adamw", lr=2e-3, flip=0.0, scale_jitter=(1.0, 1.0), color_jitter=0.0)
    train(fresh(), data, tmp_path, config, device="cpu")
    losses = [float(row["loss/total"]) for row in read_metrics(tmp_path)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(("ema", "workers"), [(0.9, 0), (0.0, 1)])
def test_interrupted_training_resumes_to_the_same_weights(fresh, data, tmp_path, ema: float, workers: int) -> None:
    config = replace(TOY, ema=ema, workers=workers)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(fresh(), data, straight, config, device="cpu")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), data, broken, config, device="cpu", callbacks=(StopAfter(1),))
    assert signal.getsignal(signal.SIGINT) is handler
    assert [row["epoch"] for row in read_metrics(broken)] == ["1"]
    train(fresh(), data, broken, config, device="cpu", resume=True)
    assert same_weights(straight / "last.pt", broken / "last.pt")
    assert read_metrics(straight) == read_metrics(broken)


def test_same_seed_gives_the_same_weights(fresh, data, tmp_path) -> None:
    config = replace(TOY, epochs=1)
    for name in ("a", "b"):
        train(fresh(), data, tmp_path / name, config, device="cpu")
    assert same_weights(tmp_path / "a" / "best.pt", tmp_path / "b" / "best.pt")


class TestResume:
    def test_without_anything_to_resume(self, fresh, data, tmp_path) -> None:
        with pytest.raises(UsageError, match="start without --resume"):
            train(fresh(), data, tmp_path, TOY, device="cpu", resume=True)

    def test_of_a_finished_training(self, fresh, data, tmp_path) -> None:
        config = replace(TOY, epochs=1)
        train(fresh(), data, tmp_path, config, device="cpu")
        with pytest.raises(UsageError, match="more --epochs"):
            train(fresh(), data, tmp_path, config, device="cpu", resume=True)

    def test_of_another_model(self, fresh, data, tmp_path, toy_config) -> None:
        train(fresh(), data, tmp_path, replace(TOY, epochs=1), device="cpu")
        other = start_fresh(toy_config.updated(fpn_channels=24), data, 0, False, None)
        with pytest.raises(UsageError, match="another model"):
            train(other, data, tmp_path, TOY, device="cpu", resume=True)

    def test_of_classes_in_another_order(self, fresh, data, tmp_path) -> None:
        train(fresh(), data, tmp_path, replace(TOY, epochs=1), device="cpu")
        turned = replace(data, categories={3: "disc", 7: "square"})
        other = replace(fresh(), classes=turned.classes)
        with pytest.raises(UsageError, match="trained on the classes square, disc, the data has disc, square"):
            train(other, turned, tmp_path, TOY, device="cpu", resume=True)

    def test_of_a_damaged_file(self, fresh, data, tmp_path) -> None:
        (tmp_path / "last.ckpt").write_bytes(b"PK\x03\x04 cut")
        with pytest.raises(ModelFileError, match="last.ckpt"):
            train(fresh(), data, tmp_path, TOY, device="cpu", resume=True)


class TestData:
    """Output before the first step."""

    def test_validation_without_objects_gives_checkpoints_and_no_ap(
        self, fresh, data, validation, tmp_path, caplog
    ) -> None:
        validation.by_image.clear()
        best = train(fresh(), data, tmp_path, replace(TOY, epochs=1), validation=validation, device="cpu")
        assert best.is_file() and (tmp_path / "last.pt").is_file()
        assert not read_metrics(tmp_path)[0]["val/mask_ap"]
        assert "no validation objects" in caplog.text

    def test_validation_whose_first_images_are_empty_is_measured_on_others(
        self, fresh, data, validation, tmp_path
    ) -> None:
        last_first = replace(validation, images=validation.images[::-1])
        config = replace(TOY, epochs=1, eval_limit=1)
        train(fresh(), data, tmp_path, config, validation=last_first, device="cpu")
        assert 0 <= float(read_metrics(tmp_path)[0]["val/mask_ap"]) <= 1

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_last_picture_of_another_size_is_found_before_the_first_step(
        self, fresh, data, validation, tmp_path, split: str
    ) -> None:
        sets = {"train": data, "val": validation}
        last = replace(sets[split].images[-1], width=130)
        sets[split] = replace(sets[split], images=(*sets[split].images[:-1], last))
        with pytest.raises(
            DataError,
            match=rf"1 x image file of another size than annotated.* {split}: .* annotated 130 x 96, file 128",
        ):
            train(fresh(), sets["train"], tmp_path / "out", TOY, validation=sets["val"], device="cpu")
        assert not (tmp_path / "out").exists()

    def test_picture_of_both_splits_is_left_out_of_validation(self, fresh, data, validation, tmp_path, caplog) -> None:
        checkpoint = fresh()
        leaked = replace(validation.images[0], path=data.images[0].path)
        images = (leaked, *validation.images[1:])
        kept = check_data(checkpoint, data, replace(validation, images=images))
        assert [image.id for image in kept.images] == [image.id for image in validation.images[1:]]
        assert "1 image is also in the training split" in caplog.text

    def test_progress_is_reported_for_every_file(self, fresh, data, validation) -> None:
        told: list[tuple[str, int, int]] = []
        check_data(fresh(), data, validation, progress=lambda *what: told.append(what))
        assert told[5] == ("checked files of train", 6, 6) and told[-1] == ("checked files of val", 3, 3)


class TestRefusal:
    def test_category_without_objects(self, fresh, data, tmp_path) -> None:
        for objects in data.by_image.values():
            objects[:] = [a for a in objects if a["category_id"] == 3]
        with pytest.raises(DataError, match="disc"):
            train(fresh(), data, tmp_path, TOY, device="cpu")

    def test_no_objects_at_all(self, fresh, data, tmp_path) -> None:
        data.by_image.clear()
        with pytest.raises(DataError, match="nothing to train on"):
            train(fresh(), data, tmp_path, TOY, device="cpu")

    def test_crowds_alone_are_no_objects(self, fresh, data, tmp_path) -> None:
        for objects in data.by_image.values():
            for annotation in objects:
                annotation["iscrowd"] = 1
        with pytest.raises(DataError, match="nothing to train on"):
            train(fresh(), data, tmp_path, TOY, device="cpu")

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_missing_picture_of_either_split(self, fresh, toy_data, data, validation, tmp_path, split: str) -> None:
        sets = {"train": data, "val": validation}
        first = replace(sets[split].images[0], path=tmp_path / "gone.png")
        sets[split] = replace(sets[split], images=(first, *sets[split].images[1:]))
        with pytest.raises(DataError, match=r"1 x missing image file, such as .*gone\.png"):
            train(fresh(), sets["train"], tmp_path, TOY, validation=sets["val"], device="cpu")

    def test_validation_with_other_classes(self, fresh, data, validation, tmp_path) -> None:
        other = replace(validation, categories={3: "cat", 7: "dog"})
        with pytest.raises(DataError, match="no class in common"):
            train(fresh(), data, tmp_path, TOY, validation=other, device="cpu")

    def test_classes_that_differ_from_the_models(self, fresh, data, tmp_path) -> None:
        other = replace(fresh(), classes=("cat", "dog"))
        with pytest.raises(DataError, match="classes"):
            train(other, data, tmp_path, TOY, device="cpu")

    def test_channels_last_on_a_cpu(self, fresh, data, tmp_path) -> None:
        with pytest.raises(UsageError, match="CUDA"):
            train(fresh(), data, tmp_path, replace(TOY, channels_last=True), device="cpu")

    def test_memory_that_is_too_small(self, fresh, data, tmp_path) -> None:
        class Exhaust(callbacks.Callback):
            def on_train_batch_start(self, *_: object) -> None:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

        with pytest.raises(UsageError, match="--batch 2, --rois 128 and --imgsz 64x128: lower them"):
            train(fresh(), data, tmp_path, TOY, device="cpu", callbacks=(Exhaust(),))

    def test_other_errors_of_torch_stay_what_they_are(self, fresh, data, tmp_path) -> None:
        class Fail(callbacks.Callback):
            def on_train_batch_start(self, *_: object) -> None:
                raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            train(fresh(), data, tmp_path, TOY, device="cpu", callbacks=(Fail(),))

    def test_loss_that_is_not_finite(self, fresh, data, tmp_path) -> None:
        checkpoint = fresh()
        torch.nn.init.constant_(checkpoint.model.rpn.head.cls_logits.bias, math.nan)
        with pytest.raises(DataError, match="--lr"):
            train(checkpoint, data, tmp_path, TOY, device="cpu")


class TestAverage:
    def test_first_update_is_a_copy_and_later_ones_follow(self, fresh) -> None:
        model = fresh().model
        average = MovingAverage(model, 0.5)
        name, weight = next(iter(model.named_parameters()))
        values = []
        for value in (1.0, 2.0, 4.0):
            torch.nn.init.constant_(weight, value)
            average.average.update_parameters(model)
            values.append(average.average.module.get_parameter(name).detach().flatten()[0].item())
        decay = [(1 + n) / (10 + n) for n in (1, 2)]
        second = decay[0] * 1 + (1 - decay[0]) * 2
        assert values == pytest.approx([1, second, decay[1] * second + (1 - decay[1]) * 4])

    def test_counters_are_copied(self, fresh) -> None:
        model = fresh().model
        average = MovingAverage(model, 0.5)
        for buffer in model.buffers():
            if not buffer.is_floating_point():
                buffer.fill_(7)
        for _ in range(2):
            average.average.update_parameters(model)
        counters = [b for b in average.average.module.buffers() if not b.is_floating_point()]
        assert counters and all(int(b) == 7 for b in counters)


class TestOptimizer:
    def test_every_trained_weight_is_in_one_group(self, fresh) -> None:
        model = fresh().model
        groups = build_optimizer(model, replace(TOY, backbone_lr_factor=0.1)).param_groups
        assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
        assert sorted({g["lr"] for g in groups}) == pytest.approx([0.0005, 0.005])
        for group in groups:
            assert all((p.dim() > 1) == (group["weight_decay"] > 0) for p in group["params"])

    def test_rate_warms_up_and_falls(self) -> None:
        rates = [learning_rate_factor(step, TrainConfig(warmup_steps=10), 100) for step in range(101)]
        assert rates[0] == pytest.approx(0.01) and rates[10] == 1.0 and rates[-1] == pytest.approx(0.01)
        assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)

    def test_rate_falls_in_steps(self) -> None:
        config = TrainConfig(warmup_steps=10, schedule="step")
        rates = [learning_rate_factor(step, config, 90) for step in (10, 59, 60, 79, 80, 90)]
        assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])

    @pytest.mark.parametrize(("stages", "trained"), [(None, 5), (0, 5), (2, 3), (-1, 0), (5, 0)])
    def test_frozen_stages_are_left_alone(self, fresh, stages: int, trained: int) -> None:
        task = MaskRCNNTask(fresh().model, replace(TOY, freeze_stages=stages), 10)
        parts = task.model.backbone.body.stages()
        assert sum(all(p.requires_grad for p in part.parameters()) for part in parts) == trained

    def test_frozen_norms_keep_their_statistics(self, fresh, data, tmp_path) -> None:
        before = fresh()
        config = replace(TOY, epochs=1, freeze_norm=True)
        after = load_checkpoint(train(fresh(), data, tmp_path, config, device="cpu"))
        for key, value in before.model.backbone.body.state_dict().items():
            if "running" in key:
                assert torch.equal(after.model.backbone.body.state_dict()[key], value)

    def test_norms_of_several_devices_are_frozen_too(self) -> None:
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
        shared = torch.nn.SyncBatchNorm.convert_sync_batchnorm(net).train()
        set_norm_eval(shared)
        assert [layer.training for layer in shared] == [True, False]

    def test_what_the_first_part_froze_stays_frozen_until_something_else_is_said(self, fresh) -> None:
        first = keep_frozen(replace(TOY, freeze_stages=2, freeze_norm=True), fresh())
        trained = replace(fresh(), training={"settings": asdict(first)})
        second = keep_frozen(TOY, trained)
        assert (second.freeze_stages, second.freeze_norm) == (2, True)
        assert describe_frozen(second) == "2 of 5 backbone stages frozen, norms frozen"
        freed = keep_frozen(replace(TOY, freeze_stages=0, freeze_norm=False), trained)
        assert (freed.freeze_stages, freed.freeze_norm) == (0, False)
        assert (keep_frozen(TOY, fresh()).freeze_stages, keep_frozen(TOY, fresh()).freeze_norm) == (0, False)


class TestStart:
    def test_same_seed_same_weights(self, toy_config, data) -> None:
        one, same, other = (start_fresh(toy_config, data, seed, False, None).model for seed in (1, 1, 2))
        weights = [next(iter(model.parameters())) for model in (one, same, other)]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])

    @pytest.mark.parametrize("agnostic", [True, False])
    def test_other_classes_get_fresh_predictors(self, toy_config, data, make_lively, tmp_path, agnostic: bool) -> None:
        config = toy_config.updated(class_agnostic_boxes=agnostic)
        names = ("a", "b", "c")
        start = Checkpoint(model=make_lively(config, 3), config=config, classes=names, category_ids=(1, 2, 3))
        save_checkpoint(tmp_path / "three.pt", start)
        adapted = continue_from(tmp_path / "three.pt", data)
        assert adapted.classes == data.classes
        predictor = adapted.model.roi_heads.box_predictor
        assert predictor.cls_score.out_features == 3
        save_checkpoint(tmp_path / "two.pt", adapted)
        again = load_checkpoint(tmp_path / "two.pt").model
        assert again.roi_heads.box_predictor.bbox_pred.out_features == (4 if agnostic else 12)
        body = "backbone.body.net.stage0.0.conv3.weight"
        assert torch.equal(again.state_dict()[body], start.model.state_dict()[body])

    def test_another_size_is_what_the_saved_checkpoint_has(self, toy_checkpoint, data, tmp_path) -> None:
        grown = continue_from(toy_checkpoint, data, image_size_hw=(256, 256))
        save_checkpoint(tmp_path / "grown.pt", grown)
        again = load_checkpoint(tmp_path / "grown.pt")
        pools = [c.model.roi_heads.box_roi_pool.canonical_scale for c in (grown, again)]
        assert pools[0] == pools[1] == round(224 * 256 / 800)
        assert again.config.image_size_hw == (256, 256)


class TestExchangeOfTheBackbone:
    def test_pyramid_and_heads_are_kept(self, toy_checkpoint) -> None:
        before = load_checkpoint(toy_checkpoint)
        after = exchange(before, "shufflenet_v2_x1_0")
        assert after.config.backbone == "shufflenet_v2_x1_0" and after.classes == before.classes
        kept = {k: v for k, v in before.model.state_dict().items() if not k.startswith("backbone.")}
        assert kept and all(torch.equal(after.model.state_dict()[k], v) for k, v in kept.items())
        smooth = "backbone.fpn.layer_blocks.0.0.weight"
        assert torch.equal(after.model.state_dict()[smooth], before.model.state_dict()[smooth])

    def test_backbone_of_the_same_layers_keeps_its_weights(self, toy_config, make_lively) -> None:
        config = toy_config.updated(backbone="shufflenet_v2_x1_0_leaky")
        before = Checkpoint(model=make_lively(config, 1), config=config, classes=("a",), category_ids=(1,))
        after = exchange(before, "shufflenet_v2_x1_0").model
        assert all(torch.equal(after.state_dict()[k], v) for k, v in before.model.state_dict().items())
        assert not any(isinstance(layer, torch.nn.LeakyReLU) for layer in after.modules())

    def test_result_is_an_ordinary_checkpoint(self, toy_checkpoint, tmp_path) -> None:
        save_checkpoint(tmp_path / "new.pt", exchange(load_checkpoint(toy_checkpoint), "mobilenet_v3_small"))
        assert load_checkpoint(tmp_path / "new.pt").config.backbone == "mobilenet_v3_small"

    def test_pruned_model_is_refused(self, toy_checkpoint) -> None:
        checkpoint = load_checkpoint(toy_checkpoint)
        narrow = checkpoint.model.backbone.fpn.layer_blocks[0][0]
        narrow.weight = torch.nn.Parameter(narrow.weight[:-4])
        with pytest.raises(UsageError, match="expected an unpruned model"):
            exchange(checkpoint, "mobilenet_v3_small")

    def test_torchvisions_own_model_is_refused(self, make_lively) -> None:
        config = preset("resnet50").updated(image_size_hw=(128, 128))
        checkpoint = Checkpoint(model=make_lively(config, 1), config=config, classes=("a",), category_ids=(1,))
        with pytest.raises(UsageError, match="no light pyramid"):
            exchange(checkpoint, "resnet18")


def exchange(checkpoint: Checkpoint, backbone: str) -> Checkpoint:
    return exchange_backbone(checkpoint, backbone, seed=0, pretrained=False, backbone_weights=None)


def test_training_stops_when_nothing_gets_better(fresh, data, validation, tmp_path, caplog) -> None:
    config = replace(TOY, epochs=9, patience=2, lr=1e-9, ema=0.0)
    train(fresh(), data, tmp_path, config, validation=validation, device="cpu")
    assert [row["epoch"] for row in read_metrics(tmp_path)] == ["1", "2", "3"]
    assert "no better mask AP in 2 evaluations" in caplog.text


@pytest.mark.parametrize("option", [{"schedule": "step"}, {"clip_norm": 0.0}])
def test_option_changes_how_but_not_what_is_learnt(fresh, data, tmp_path, option: dict) -> None:
    train(fresh(), data, tmp_path, replace(TOY, epochs=1, **option), device="cpu")
    (row,) = read_metrics(tmp_path)
    assert 0 < float(row["loss/total"]) < 10


class TestCompile:
    def test_compiled_backbone_computes_the_same(self, fresh) -> None:
        model = fresh().model.eval()
        x = torch.randn(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))
        before = model.backbone(x)
        assert compile_backbone(model, (64, 128), torch.device("cpu"), backend="eager")
        for name, features in model.backbone(x).items():
            torch.testing.assert_close(features, before[name])

    def test_failed_compilation_of_the_backbone_gives_a_warning(self, fresh, caplog) -> None:
        def refuse(*_: object) -> None:
            raise RuntimeError("no compiler")

        model = fresh().model.train()
        assert not compile_backbone(model, (64, 128), torch.device("cpu"), backend=refuse)
        assert "no compiler" in caplog.text and "continuing without it" in caplog.text
        assert model.backbone.training and model.backbone(torch.zeros(2, 3, 64, 128))


class TestPictures:
    def test_samples_show_annotated_and_found_objects(self, toy_checkpoint, validation, tmp_path) -> None:
        with load_reference(toy_checkpoint, "cpu") as runtime:
            draw_samples(runtime, validation, tmp_path / "new" / "sheet.jpg", count=4)
        sheet = cv2.imread(str(tmp_path / "new" / "sheet.jpg"))
        assert sheet.shape == (216, 4 * 288, 3)

    def test_curves_are_drawn_from_whatever_there_is(self, tmp_path) -> None:
        for text in ("epoch,step,loss/total,val/mask_ap\n1,3,2.5,\n2,6,2.0,0.1\n", "epoch,loss/total\n1,2.5\n"):
            (tmp_path / "metrics.csv").write_text(text)
            draw_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
            assert cv2.imread(str(tmp_path / "curves.png")).std() > 5


def test_provenance_is_plain_json(fresh, data, tmp_path) -> None:
    best = train(fresh(), data, tmp_path, replace(TOY, epochs=1), device="cpu")
    training = load_checkpoint(best).training
    assert json.loads(json.dumps(training)) == training
    assert training["data"] == "instances_train.json"


def test_other_data_is_not_resumed(toy_data: Path, tmp_path: Path) -> None:
    now = hash_data(load(toy_data, "train"))
    assert hash_data(load(toy_data, "train")) == now
    check_same_data(tmp_path, now, now)
    check_same_data(tmp_path, None, now)  # of an older version
    with pytest.raises(UsageError, match="trained on other data"):
        check_same_data(tmp_path, hash_data(load(toy_data, "val")), now)

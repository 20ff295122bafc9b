"""Distillation: zero loss with an equal teacher, a loss with another one, and rejected teachers."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.config import ModelConfig, TrainConfig  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from edge_mrcnn.train.distillation import (  # noqa: E402
    Teacher,
    class_loss,
    distillation_losses,
    feature_loss,
    make_adapter,
    mask_loss,
)
from edge_mrcnn.train.loop import train  # noqa: E402
from edge_mrcnn.train.losses import compute_losses  # noqa: E402
from edge_mrcnn.train.task import MaskRCNNTask  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402

CLASSES = ("square", "disc")
CONFIG = TrainConfig()


@pytest.fixture
def make(make_lively: Callable) -> Callable[..., Checkpoint]:
    """A function that builds a checkpoint of lively weights for the classes of the toy data."""

    def build(config: ModelConfig, seed: int = 0) -> Checkpoint:
        model = make_lively(config, len(CLASSES), seed)
        return Checkpoint(model=model, config=config, classes=CLASSES, category_ids=(3, 7))

    return build


def make_batch(size_hw: tuple[int, int]) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, *size_hw), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(1, *size_hw, dtype=torch.uint8)
    masks[0, 10:50, 20:70] = 1
    target = {"boxes": torch.tensor([[20.0, 10, 70, 50]]), "labels": torch.tensor([2]), "masks": masks}
    return images, [target, {k: v[:0] for k, v in target.items()}]


def learn(student: Checkpoint, teacher: Teacher, config: TrainConfig = CONFIG) -> dict[str, torch.Tensor]:
    """The distillation losses of one batch."""
    student.model.train()
    for layer in student.model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()  # as the teacher's
    images, targets = make_batch(student.config.image_size_hw)
    _, regions = compute_losses(student.model, images, targets)
    return distillation_losses(
        regions, teacher.outputs_for(images, regions), make_adapter(student.model, teacher), config
    )


def test_student_equal_to_its_teacher_has_zero_loss(make: Callable, toy_config: ModelConfig) -> None:
    losses = learn(make(toy_config), Teacher(make(toy_config), make(toy_config)))
    assert sorted(losses) == [f"loss_distill_{name}" for name in ("boxes", "classes", "features", "masks")]
    for value in losses.values():
        assert float(value.detach()) == pytest.approx(0, abs=2e-5)


@pytest.mark.parametrize(("weights", "adapts"), [((0.0, 0.0), False), ((0.0, 1.0), True), ((1.0, 0.0), True)])
def test_adapter_is_trained_only_where_a_loss_reaches_it(make, toy_config, weights, adapts) -> None:
    student, wide = make(toy_config), make(toy_config.updated(fpn_channels=24), seed=5)
    config = replace(CONFIG, distill_maps=weights[0], distill_features=weights[1])
    task = MaskRCNNTask(student.model, config, 1, teacher=Teacher(wide, student))
    assert bool(list(task.adapter.parameters())) == adapts


def test_student_learns_from_another(make: Callable, toy_config: ModelConfig) -> None:
    student, other = make(toy_config), make(toy_config.updated(fpn_channels=24), seed=5)
    teacher = Teacher(other, student)
    parameters = [p for p in student.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    totals = []
    for _ in range(8):
        torch.manual_seed(0)
        total = sum(learn(student, teacher).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]
    assert all(p.grad is None for p in other.model.parameters())


def test_larger_teacher_sees_the_same_regions(make: Callable, toy_config: ModelConfig) -> None:
    height, width = toy_config.image_size_hw
    student, large = make(toy_config), make(toy_config.updated(image_size_hw=(2 * height, 2 * width)))
    seen = []
    large.model.roi_heads.box_roi_pool.register_forward_pre_hook(lambda _, args: seen.append(args))
    losses = learn(student, Teacher(large, student))
    (features, boxes, sizes) = seen[0]
    assert sizes == [(2 * height, 2 * width)] * 2 and features["0"].shape[-1] == 2 * width // 8
    assert max(float(b.max()) for b in boxes) > width
    assert all(torch.isfinite(v) for v in losses.values())


def test_teacher_that_pools_more_bins_is_understood(make: Callable, toy_config: ModelConfig) -> None:
    student = make(toy_config.updated(mask_pool_size=10, box_pool_size=5))
    losses = learn(student, Teacher(make(toy_config, seed=3), student))
    assert all(torch.isfinite(value) and value > 0 for value in losses.values())


def test_weight_of_zero_leaves_a_loss_out(make: Callable, toy_config: ModelConfig) -> None:
    config = replace(CONFIG, distill_features=0.0, distill_boxes=0.0, distill_masks=0.5)
    losses = learn(make(toy_config), Teacher(make(toy_config, 3), make(toy_config)), config)
    assert sorted(losses) == ["loss_distill_classes", "loss_distill_masks"]


class TestMaps:
    CONFIG = replace(CONFIG, distill_maps=2.0)

    def test_equal_maps_have_no_loss(self, make: Callable, toy_config: ModelConfig) -> None:
        losses = learn(make(toy_config), Teacher(make(toy_config), make(toy_config)), self.CONFIG)
        assert float(losses["loss_distill_maps"].detach()) == pytest.approx(0, abs=2e-5)

    def test_other_maps_are_of_a_larger_and_wider_teacher_too(self, make: Callable, toy_config: ModelConfig) -> None:
        height, width = toy_config.image_size_hw
        student = make(toy_config)
        large = make(toy_config.updated(image_size_hw=(2 * height, 2 * width), fpn_channels=24), seed=5)
        loss = learn(student, Teacher(large, student), self.CONFIG)["loss_distill_maps"]
        loss.backward()
        assert 0.1 < float(loss.detach()) < 4
        assert student.model.backbone.body.net.stage0[0].conv3.weight.grad.abs().max() > 0


class TestRefusal:
    def test_other_classes(self, make: Callable, toy_config: ModelConfig) -> None:
        other = replace(make(toy_config), classes=("cat", "dog"))
        with pytest.raises(UsageError, match="cat"):
            Teacher(other, make(toy_config))

    def test_input_of_another_shape(self, make: Callable, toy_config: ModelConfig) -> None:
        square = make(toy_config.updated(image_size_hw=(128, 128)))
        with pytest.raises(UsageError, match="128x128, the student's 64x128"):
            Teacher(square, make(toy_config))


class TestLosses:
    def test_features_may_be_of_another_scale(self) -> None:
        features = torch.randn(3, 8, 7, 7, generator=torch.Generator().manual_seed(0))
        assert float(feature_loss(5 * features, features)) == pytest.approx(0, abs=1e-5)
        assert float(feature_loss(-features, features)) == pytest.approx(2, abs=1e-5)

    def test_nothing_to_compare_is_zero_with_a_gradient(self) -> None:
        logits = torch.zeros(0, 3, 28, 28, requires_grad=True)
        mask_loss(logits, logits.detach(), torch.zeros(0, dtype=torch.int64)).backward()
        assert float(class_loss(torch.zeros(0, 3), torch.zeros(0, 3))) == 0

    def test_only_the_mask_of_the_own_class_counts(self) -> None:
        student, teacher = torch.zeros(1, 3, 28, 28), torch.zeros(1, 3, 28, 28)
        teacher[:, 2] = 4.0
        assert float(mask_loss(student, teacher, torch.tensor([1]))) == pytest.approx(0)
        assert float(mask_loss(student, teacher, torch.tensor([2]))) > 0.3


def test_training_with_a_teacher_logs_the_distillation_losses(
    make: Callable, toy_config: ModelConfig, toy_data: Path, tmp_path: Path
) -> None:
    config = TrainConfig(epochs=1, batch=2, workers=0, precision="32", optimizer="adamw")
    teacher = make(toy_config.updated(fpn_channels=24), 4)
    best = train(make(toy_config), load(toy_data, "train"), tmp_path, config, device="cpu", teacher=teacher)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["loss/distill_features"]) > 0 and float(row["loss/distill_masks"]) > 0
    trained = load_checkpoint(best)
    assert trained.training["teacher"] == "toy"
    assert trained.model.backbone.out_channels == toy_config.fpn_channels

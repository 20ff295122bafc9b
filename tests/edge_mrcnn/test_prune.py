"""Pruning: every backbone and preset gets narrower, saves, loads and runs; ratio 0 changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("torch_pruning", reason="pip install 'edge-mrcnn[prune]'")

from edge_mrcnn.config import PRESETS, ModelConfig, preset  # noqa: E402
from edge_mrcnn.data.coco import load_coco  # noqa: E402
from edge_mrcnn.export.graph import DeployGraph  # noqa: E402
from edge_mrcnn.model.backbones import BACKBONES  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from edge_mrcnn.model.mask_rcnn import build_model  # noqa: E402
from edge_mrcnn.prune.channels import PruneConfig, prune, training_batches  # noqa: E402
from edge_mrcnn.train.task import Batch  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402

SIZE = (64, 64)


def make_batches() -> Iterable[Batch]:
    masks = torch.zeros(1, *SIZE, dtype=torch.uint8)
    masks[0, 10:40, 8:50] = 1
    target = {"boxes": torch.tensor([[8.0, 10, 50, 40]]), "labels": torch.tensor([1]), "masks": masks}
    generator = torch.Generator().manual_seed(0)
    return [(torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=generator), [target] * 2)]


def make_checkpoint(config: ModelConfig) -> Checkpoint:
    torch.manual_seed(0)
    model = build_model(config, 2).eval()
    return Checkpoint(model=model, config=config, classes=("a", "b"), category_ids=(1, 2))


def run_forward(checkpoint: Checkpoint) -> list[torch.Tensor]:
    """Outputs of torchvision's inference and of the deploy graph, which have to be alive in all shapes."""
    image = torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        maps = checkpoint.model.backbone(image[None] / 255.0)
        objectness, deltas = checkpoint.model.rpn.head(list(maps.values()))
        checkpoint.model([image])
        DeployGraph(checkpoint.model, checkpoint.config)(image.permute(1, 2, 0)[None])
    return [*objectness, *deltas]


def count(checkpoint: Checkpoint) -> int:
    return sum(p.numel() for p in checkpoint.model.parameters())


PARTS = {
    **{f"preset {name}": replace(preset(name), image_size_hw=SIZE) for name in PRESETS},
    **{name: ModelConfig(image_size_hw=SIZE, backbone=name, fpn_channels=32, box_hidden=(64,), mask_hidden=(32,))
       for name in (*BACKBONES, "timm:mobilenetv3_small_050")},
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_gets_narrower_saves_loads_and_runs(name: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(PARTS[name])
    before = count(checkpoint)
    pruned = prune(checkpoint, make_batches(), PruneConfig(ratio=0.4))
    assert count(pruned) < 0.85 * before
    assert pruned.training["pruned"]["parameters"] == [before, count(pruned)]
    save_checkpoint(tmp_path / "pruned.pt", pruned)
    again = load_checkpoint(tmp_path / "pruned.pt")
    for one, other in zip(run_forward(pruned), run_forward(again), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["repvgg_lite", "shufflenet_v2_x1_0"])
def test_pruned_checkpoint_trains_on(name: str, tmp_path: Path) -> None:
    pruned = prune(make_checkpoint(PARTS[name]), make_batches(), PruneConfig(ratio=0.4))
    save_checkpoint(tmp_path / "pruned.pt", pruned)
    model = load_checkpoint(tmp_path / "pruned.pt").model.train()
    for images, targets in make_batches():
        sum(model(images, targets).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.shape != p.shape] == []


def test_ratio_zero_changes_nothing() -> None:
    checkpoint = make_checkpoint(PARTS["preset nano-dense"])
    before = {k: v.clone() for k, v in checkpoint.model.state_dict().items()}
    after = prune(checkpoint, make_batches(), PruneConfig(ratio=0.0)).model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[k], before[k]) for k in before)


def test_widths_are_multiples_of_eight() -> None:
    pruned = prune(make_checkpoint(PARTS["preset nano-dense"]), make_batches(), PruneConfig(ratio=0.3))
    convolutions = [m for m in pruned.model.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.out_channels % 8 == 0 for m in convolutions)


def test_predictors_keep_their_outputs() -> None:
    heads = prune(make_checkpoint(PARTS["preset nano-dense"]), make_batches(), PruneConfig(ratio=0.5)).model.roi_heads
    assert heads.box_predictor.cls_score.out_features == 3
    assert heads.box_predictor.bbox_pred.out_features == 4
    assert heads.mask_predictor.mask_fcn_logits.out_channels == 3


def test_channels_that_do_nothing_go_first() -> None:
    checkpoint = make_checkpoint(PARTS["preset nano-dense"])
    hidden = checkpoint.model.roi_heads.box_head[1]
    with torch.no_grad():
        hidden.weight[::2] = 0
        hidden.bias[::2] = -1  # dead behind the ReLU
    alive = {row.sum().item() for row in hidden.weight[1::2]}
    pruned = prune(checkpoint, make_batches(), PruneConfig(ratio=0.5))
    left = pruned.model.roi_heads.box_head[1]
    assert left.out_features == 128
    assert (left.bias > -0.5).all() and len(alive) == 128


def test_same_data_and_seed_remove_the_same(toy_data: Path, toy_config: ModelConfig) -> None:
    states = []
    for _ in range(2):
        checkpoint = replace(make_checkpoint(toy_config), classes=("square", "disc"), category_ids=(3, 7))
        batches = training_batches(load_coco(toy_data, "train"), checkpoint, 2, 0)
        torch.rand(3)  # what others drew does not matter
        states.append(prune(checkpoint, batches, PruneConfig(ratio=0.4)).model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 2.0])
def test_impossible_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match="ratio"):
        PruneConfig(ratio=ratio)

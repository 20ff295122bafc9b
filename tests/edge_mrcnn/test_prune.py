"""Pruning: every backbone and preset can be narrowed, saved, loaded and run; the chosen channels are cut."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("torch_pruning", reason="pip install 'edge-mrcnn[prune]'")

from edge_mrcnn.config import PRESETS, ModelConfig, preset  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.export.cost import measure_cost  # noqa: E402
from edge_mrcnn.export.graph import DeployGraph  # noqa: E402
from edge_mrcnn.model.backbones import BACKBONES  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from edge_mrcnn.model.mask_rcnn import build_model  # noqa: E402
from edge_mrcnn.prune.channels import prune, training_batches  # noqa: E402
from edge_mrcnn.prune.costs import MacCost, Widths, describe_layers  # noqa: E402
from edge_mrcnn.prune.groups import ChannelGroup, find_groups  # noqa: E402
from edge_mrcnn.prune.importance import measure_importance  # noqa: E402
from edge_mrcnn.prune.selection import choose_channels  # noqa: E402
from edge_mrcnn.prune.settings import PruneConfig  # noqa: E402
from edge_mrcnn.prune.surgery import cut, mask  # noqa: E402
from edge_mrcnn.prune.surrogate import Surrogate  # noqa: E402
from edge_mrcnn.prune.tuning import TOLERANCE, describe  # noqa: E402
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
    """A model whose norms and biases are no identities, as after a training."""
    torch.manual_seed(0)
    model = build_model(config, 2).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.dim() == 1 and not key.endswith("cls_logits.bias"):
                value.add_(0.2 * torch.rand_like(value))
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


def random_removal(groups: Iterable[ChannelGroup]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {g.name: torch.randperm(g.width, generator=generator)[: g.width // 3] for g in groups}


TIMM = ("mobilenetv3_small_050", "repvgg_a0", "mobileone_s0", "regnetx_002", "ghostnetv2_100")
"""Nets with gates, branches, grouped convolutions, and channels made out of others."""

PARTS = {
    **{f"preset {name}": replace(preset(name), image_size_hw=SIZE) for name in PRESETS},
    **{name: ModelConfig(image_size_hw=SIZE, backbone=name, fpn_channels=32, box_hidden=(64,), mask_hidden=(32,))
       for name in (*BACKBONES, *(f"timm:{net}" for net in TIMM))},
    "resnet50 v2": replace(preset("resnet50"), backbone="torchvision_resnet50_fpn_v2", image_size_hw=SIZE),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
@torch.no_grad()
def test_cut_model_equals_the_masked_original_and_runs(name: str, tmp_path: Path) -> None:
    """The costs are those that were predicted, and the model can be saved."""
    checkpoint = make_checkpoint(PARTS[name])
    groups, layers = find_groups(checkpoint), describe_layers(checkpoint)
    widths, cost = Widths(layers, groups), MacCost(layers)
    assert widths.total(cost) == measure_cost(checkpoint.model, checkpoint.config).macs
    removal = random_removal(groups)
    masked = copy.deepcopy(checkpoint.model)
    mask(masked, groups, removal)
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    whole, expected = Surrogate(checkpoint.model)(image), Surrogate(masked)(image)
    cut(checkpoint.model, groups, removal)
    for one, other, before in zip(Surrogate(checkpoint.model)(image), expected, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))
        assert not torch.allclose(one, before)
    for group, channels in removal.items():
        before, saving = widths.total(cost), widths.saving(group, len(channels), cost)
        widths.remove(group, len(channels))
        assert widths.total(cost) == before - saving
    assert widths.total(cost) == measure_cost(checkpoint.model, checkpoint.config).macs
    save_checkpoint(tmp_path / "pruned.pt", checkpoint)
    for one, other in zip(run_forward(checkpoint), run_forward(load_checkpoint(tmp_path / "pruned.pt")), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "name",
    ["preset nano", "preset small-dense", "preset resnet50", *(f"timm:{net}" for net in TIMM if net != "mobileone_s0")],
)
def test_reaches_its_budget(name: str) -> None:
    checkpoint = make_checkpoint(PARTS[name])
    parameters = count(checkpoint)
    pruned = prune(checkpoint, make_batches(), PruneConfig(macs=0.6))
    macs, left = (measure_cost(c.model, c.config).macs for c in (checkpoint, pruned))
    is_close = (1 - TOLERANCE) * 0.6 * macs < left
    assert 0.5 * macs < left <= 0.6 * macs and pruned.training["pruned"]["macs"] == [macs, left]
    assert is_close or any("asked for 60 %" in line for line in describe(pruned))
    assert pruned.training["pruned"]["parameters"] == [parameters, count(pruned)]
    assert count(pruned) < parameters == count(checkpoint)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x1_0_leaky"])
def test_pruned_checkpoint_exports_with_torchs_outputs(name: str, tmp_path: Path) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="pip install 'edge-mrcnn[export]'")
    from edge_mrcnn.export.pipeline import export
    from edge_mrcnn.export.settings import ExportConfig

    save_checkpoint(tmp_path / "pruned.pt", prune(make_checkpoint(PARTS[name]), make_batches(), PruneConfig(macs=0.6)))
    (file,) = export(tmp_path / "pruned.pt", tmp_path, ExportConfig(targets=("onnx",)))
    assert file.is_file()


@pytest.mark.parametrize("name", ["repvgg_lite", "shufflenet_v2_x1_0"])
def test_pruned_checkpoint_trains_on(name: str, tmp_path: Path) -> None:
    pruned = prune(make_checkpoint(PARTS[name]), make_batches(), PruneConfig(ratio=0.4))
    save_checkpoint(tmp_path / "pruned.pt", pruned)
    model = load_checkpoint(tmp_path / "pruned.pt").model.train()
    for images, targets in make_batches():
        sum(model(images, targets).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.shape != p.shape] == []


@pytest.mark.parametrize("budget", [{"ratio": 0.0}, {"macs": 1.0}])
def test_nothing_to_remove_changes_nothing(budget: dict[str, float]) -> None:
    checkpoint = make_checkpoint(PARTS["preset nano-dense"])
    before = {k: v.clone() for k, v in checkpoint.model.state_dict().items()}
    after = prune(checkpoint, make_batches(), PruneConfig(**budget)).model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[k], before[k]) for k in before)


def test_ratio_is_the_share_of_all_channels() -> None:
    checkpoint = make_checkpoint(PARTS["mobilenet_v2"])
    pruned = prune(checkpoint, make_batches(), PruneConfig(ratio=0.4))
    before, after = (sum(group.width for group in find_groups(c)) for c in (checkpoint, pruned))
    assert 0.58 * before < after <= 0.6 * before


def test_widths_are_multiples_of_eight() -> None:
    pruned = prune(make_checkpoint(PARTS["preset nano-dense"]), make_batches(), PruneConfig(ratio=0.3))
    convolutions = [m for m in pruned.model.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.out_channels % 8 == 0 for m in convolutions)


def test_no_group_vanishes() -> None:
    checkpoint = make_checkpoint(PARTS["preset nano"])
    pruned = prune(checkpoint, make_batches(), PruneConfig(macs=0.01))
    for before, after in zip(find_groups(checkpoint), find_groups(pruned), strict=True):
        assert after.width >= min(before.width, max(8, before.width // 8))
    assert any("1 % cannot be reached" in line for line in describe(pruned))


def test_predictors_keep_their_outputs() -> None:
    heads = prune(make_checkpoint(PARTS["preset nano-dense"]), make_batches(), PruneConfig(ratio=0.5)).model.roi_heads
    assert heads.box_predictor.cls_score.out_features == 3
    assert heads.box_predictor.bbox_pred.out_features == 4
    assert heads.mask_predictor.mask_fcn_logits.out_channels == 3


def test_channels_that_do_nothing_do_not_matter() -> None:
    checkpoint = make_checkpoint(PARTS["preset nano-dense"])
    hidden = checkpoint.model.roi_heads.box_head[1]
    with torch.no_grad():
        hidden.weight[::2] = 0
        hidden.bias[::2] = -1  # dead behind the ReLU
    groups = find_groups(checkpoint)
    importance = measure_importance(checkpoint.model, groups, make_batches(), 2)["roi_heads.box_head.1"]
    assert (importance[::2] == 0).all() and (importance[1::2] > 0).any()


def test_importance_is_half_the_mean_square_of_the_derivative() -> None:
    """Against autograd through a factor in front of each channel that the mask head reads."""
    checkpoint = make_checkpoint(PARTS["mobilenet_v3_small"])
    groups = [g for g in find_groups(checkpoint) if g.name == "roi_heads.mask_head.0.0"]
    measured = measure_importance(copy.deepcopy(checkpoint.model), groups, make_batches(), 2, device="cpu")
    factor = torch.ones(1, 32, 1, 1, requires_grad=True)
    model = copy.deepcopy(checkpoint.model)
    model.roi_heads.mask_predictor.conv5_mask.register_forward_pre_hook(lambda _, inputs: inputs[0] * factor)
    squares = torch.zeros(32)
    torch.manual_seed(0)
    from edge_mrcnn.prune.importance import _make_ready
    from edge_mrcnn.train.losses import compute_losses

    _make_ready(model)
    for images, targets in make_batches():
        for image, target in zip(images, targets, strict=True):
            loss = sum(compute_losses(model, image[None], [target])[0].values())
            squares += torch.autograd.grad(loss, factor)[0].flatten() ** 2
    torch.testing.assert_close(measured["roi_heads.mask_head.0.0"], squares / 4, rtol=1e-3, atol=1e-9)


def test_least_loss_for_the_cost_goes_first_and_dear_steps_are_given_back() -> None:
    checkpoint = make_checkpoint(PARTS["repvgg_lite"])
    groups, layers = find_groups(checkpoint), describe_layers(checkpoint)
    widths, cost = Widths(layers, groups), MacCost(layers)
    importance = {g.name: torch.full((g.width,), 1.0) for g in groups}
    cheap = groups[-1].name
    importance[cheap][8:] = 1e-9
    goal = widths.total(cost) - widths.saving(cheap, 16, cost)
    removal = choose_channels(groups, importance, widths, cost, goal)
    assert {name: len(channels) for name, channels in removal.items()} == {cheap: 16}
    assert not set(range(8)) & set(removal[cheap].tolist()) and widths.total(cost) <= goal


def test_same_data_and_seed_remove_the_same(toy_data: Path, toy_config: ModelConfig) -> None:
    states = []
    for _ in range(2):
        checkpoint = replace(make_checkpoint(toy_config), classes=("square", "disc"), category_ids=(3, 7))
        batches = training_batches(load(toy_data, "train"), checkpoint, 2, 0)
        torch.rand(3)  # what others drew does not matter
        states.append(prune(checkpoint, batches, PruneConfig(ratio=0.4)).model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"ratio": -0.1}, "ratio"),
        ({"ratio": 1.0}, "ratio"),
        ({"macs": 0.0}, "macs"),
        ({"macs": 1.5}, "macs"),
        ({"latency_ms": 0.0}, "latency"),
        ({}, "exactly one"),
        ({"macs": 0.5, "ratio": 0.5}, "exactly one"),
    ],
)
def test_impossible_budget_is_refused(budget: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PruneConfig(**budget)

"""Zeroed weights: selection, share, that they stay zero in a training, and the reported effect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("torch_pruning", reason="pip install 'edge-mrcnn[prune]'")

from edge_mrcnn.config import TrainConfig  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.export.cost import measure_cost  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from edge_mrcnn.prune.groups import input_axis  # noqa: E402
from edge_mrcnn.prune.settings import PruneConfig  # noqa: E402
from edge_mrcnn.prune.sparsity import Pattern, sparse_layers, sparsify  # noqa: E402
from edge_mrcnn.prune.tuning import describe, prune_and_train  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402

TOY = TrainConfig(epochs=1, batch=2, workers=0, warmup_steps=2, lr=0.005, optimizer="adamw", precision="32")


@pytest.fixture
def trained(toy_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(toy_checkpoint)


def zeros(checkpoint: Checkpoint) -> list[torch.Tensor]:
    return [layer.weight == 0 for layer in sparse_layers(checkpoint.model)]


def test_the_smallest_share_of_each_layer_goes(trained: Checkpoint) -> None:
    sparse = sparsify(trained, Pattern.named("0.75"))
    for layer, whole in zip(sparse_layers(sparse.model), sparse_layers(trained.model), strict=True):
        gone = layer.weight == 0
        assert gone.float().mean() == pytest.approx(0.75, abs=0.02)
        assert whole.weight[gone].abs().max() <= whole.weight[~gone].abs().min()
    assert not any(mask.any() for mask in zeros(trained))


def test_two_of_any_four_inputs_go(trained: Checkpoint) -> None:
    for layer in sparse_layers(sparsify(trained, Pattern.named("2:4")).model):
        weight = layer.weight.transpose(0, input_axis(layer))
        fours = weight[: len(weight) // 4 * 4].unflatten(0, (-1, 4))
        assert ((fours == 0).sum(1) == 2).all()


def test_zeros_shrink_what_is_compressed_and_nothing_else(trained: Checkpoint) -> None:
    sparse = sparsify(trained, Pattern.named("0.5"))
    record = sparse.training["sparse"]
    before, after = record["compressed_mb"]
    assert after < 0.75 * before and record["share"] > 0.4 and record["pattern"] == "0.5"
    assert measure_cost(sparse.model, sparse.config) == measure_cost(trained.model, trained.config)
    (line,) = describe(sparse)
    assert f"{before:.2f} to {after:.2f} MB" in line and "latency stay as they are" in line


def test_zeros_stay_zero_in_training(trained: Checkpoint, toy_data: Path, tmp_path: Path) -> None:
    config = PruneConfig(macs=0.8, sparsity="2:4", images=2)
    best = prune_and_train(trained, load(toy_data, "train"), tmp_path, config, TOY, device="cpu")
    start, end = load_checkpoint(tmp_path / "pruned.pt"), load_checkpoint(best)
    assert all(torch.equal(one, other) for one, other in zip(zeros(start), zeros(end), strict=True))
    assert all(mask.float().mean() > 0.4 for mask in zeros(end))
    assert {"pruned", "sparse"} <= set(end.training)
    moved = zip(start.model.parameters(), end.model.parameters(), strict=True)
    assert not all(torch.equal(one, other) for one, other in moved)


def test_sparsity_alone_keeps_all_channels(trained: Checkpoint, toy_data: Path, tmp_path: Path) -> None:
    config, data = PruneConfig(sparsity="0.5"), load(toy_data, "train")
    best = load_checkpoint(prune_and_train(trained, data, tmp_path, config, replace(TOY, epochs=0), device="cpu"))
    assert "pruned" not in best.training and best.training["sparse"]["pattern"] == "0.5"


@pytest.mark.parametrize("text", ["0", "1", "-0.5", "4:8", "half"])
def test_unknown_sparsity_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="sparsity"):
        PruneConfig(sparsity=text)

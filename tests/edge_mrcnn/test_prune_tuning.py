"""The `prune` command: steps, a teacher, a target latency, and resumption."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("torch_pruning", reason="pip install 'edge-mrcnn[prune]'")

from edge_mrcnn.config import TrainConfig  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.data.coco import CocoData  # noqa: E402
from edge_mrcnn.export.cost import measure_cost  # noqa: E402
from edge_mrcnn.export.pipeline import adapt  # noqa: E402
from edge_mrcnn.export.settings import ExportConfig  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from edge_mrcnn.prune import latency, probes, tuning  # noqa: E402
from edge_mrcnn.prune.budget import Budget  # noqa: E402
from edge_mrcnn.prune.channels import narrow  # noqa: E402
from edge_mrcnn.prune.costs import Widths, describe_layers  # noqa: E402
from edge_mrcnn.prune.fine_tuning import fine_tuning  # noqa: E402
from edge_mrcnn.prune.groups import find_groups  # noqa: E402
from edge_mrcnn.prune.latency import LatencyCost, corrected, equal_threshold, fit_terms  # noqa: E402
from edge_mrcnn.prune.probes import LayerProbe, time_probes  # noqa: E402
from edge_mrcnn.prune.settings import PruneConfig  # noqa: E402
from edge_mrcnn.prune.tuning import prune_and_train  # noqa: E402
from edge_mrcnn.reference import TorchRuntime  # noqa: E402
from runtimes.errors import DataError, UsageError  # noqa: E402
from runtimes.preprocess import read_image  # noqa: E402

HALF = PruneConfig(macs=0.5, images=4)
TOY = TrainConfig(epochs=3, batch=2, workers=0, warmup_steps=2, lr=0.005, precision="32")


@pytest.fixture
def data(toy_data: Path) -> CocoData:
    return load(toy_data, "train")


@pytest.fixture
def trained(toy_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(toy_checkpoint)


@pytest.fixture(scope="module")
def whole(toy_checkpoint: Path, toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run in two steps."""
    folder = tmp_path_factory.mktemp("whole")
    data = load(toy_data, "train")
    prune_and_train(load_checkpoint(toy_checkpoint), data, folder, HALF, TOY, iterations=2, device="cpu")
    return folder


@pytest.fixture
def one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are taken once: whatever busy moment spoils them does not matter where no time is compared."""
    monkeypatch.setattr(latency, "TURNS", 1)
    monkeypatch.setattr(probes, "ROUNDS", 1)
    monkeypatch.setattr(tuning, "TIMED_IMAGES", 2)


def macs(checkpoint: Checkpoint) -> int:
    return measure_cost(checkpoint.model, checkpoint.config).macs


def test_goes_in_steps_and_learns_from_the_unpruned_model(trained: Checkpoint, whole: Path) -> None:
    before = macs(trained)
    first, last = load_checkpoint(whole / "step-1" / "last.pt"), load_checkpoint(whole / "best.pt")
    assert 0.6 * before < macs(first) <= 0.75 * before and 0.4 * before < macs(last) <= 0.5 * before
    assert (first.training["epoch"], last.training["epoch"]) == (1, 2)
    assert last.training["pruned"]["macs"] == [before, macs(last)] and last.training["teacher"] == trained.config.name
    with (whole / "metrics.csv").open() as file:
        assert float(next(csv.DictReader(file))["loss/distill_masks"]) > 0


@pytest.mark.parametrize("stage", ["first", "second", "cut"])
def test_resumes_where_it_stopped(
    trained: Checkpoint, data: CocoData, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    stop_at = {"first": 1, "second": 2, "cut": 2}[stage]
    calls = {"train": 0, "cut": 0}

    def stopping(what: str, function: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            calls[what] += 1
            if calls[what] == stop_at:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return call

    what = "cut" if stage == "cut" else "train"
    with monkeypatch.context() as patch:
        place, name = (tuning._Cutter, "cut") if what == "cut" else (tuning, "train")
        patch.setattr(place, name, stopping(what, getattr(place, name)))
        with pytest.raises(KeyboardInterrupt):
            prune_and_train(trained, data, tmp_path, HALF, TOY, iterations=2, device="cpu")
    again = prune_and_train(trained, data, tmp_path, HALF, TOY, iterations=2, resume=True, device="cpu")
    states = [load_checkpoint(path).model.state_dict() for path in (whole / "best.pt", again)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_finished_run_resumes_to_itself(trained: Checkpoint, data: CocoData, tmp_path: Path) -> None:
    settings = replace(TOY, epochs=1)
    best = prune_and_train(trained, data, tmp_path, HALF, settings, device="cpu")
    written = best.stat().st_mtime_ns
    assert prune_and_train(trained, data, tmp_path, HALF, settings, resume=True, device="cpu") == best
    assert best.stat().st_mtime_ns == written


@pytest.mark.usefixtures("one_turn")
def test_reaches_a_latency_as_an_exported_file(
    trained: Checkpoint, data: CocoData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="pip install 'edge-mrcnn[openvino]'")
    monkeypatch.setattr(tuning, "TRIALS", 2)
    said: list[str] = []
    config = PruneConfig(latency_ms=0.01, runtime="openvino", threads=1, images=4)
    best = prune_and_train(trained, data, tmp_path, config, replace(TOY, epochs=0), device="cpu", say=said.append)
    assert macs(load_checkpoint(best)) < 0.5 * macs(trained)
    assert sum(line.startswith("openvino: ") for line in said) >= 2
    assert any("0.0 ms cannot be reached" in line for line in said)


def test_models_are_timed_while_they_find_as_many_objects(trained: Checkpoint, data: CocoData) -> None:
    images = [read_image(image.path) for image in data.images[:4]]
    for wanted in (0.0, 1.0, 2.5):
        threshold = equal_threshold(trained, images, wanted)
        own = replace(trained, model=copy.deepcopy(trained.model))
        model = TorchRuntime(adapt(own, ExportConfig(score_threshold=threshold)), device="cpu")
        assert sum(len(model.infer(image).scores) for image in images) == round(wanted * len(images))
    assert equal_threshold(trained, images, 1e4) == pytest.approx(0, abs=1e-5)
    assert trained.model.roi_heads.score_thresh == trained.config.score_threshold


def test_a_correction_keeps_the_original_and_explains_what_was_measured(trained: Checkpoint) -> None:
    layers, groups = describe_layers(trained), find_groups(trained)
    table = {name: (0.0, 0.0, 0.0, 1e-6 * layer.macs(1, 1)) for name, layer in layers.items()}
    cost = LatencyCost(table, base=2.0)
    full = Widths(layers, groups).total(cost)
    budget = Budget(cost, full, goal=2.0 + 0.7 * (full - 2.0))
    importance = {group.name: torch.arange(group.width).float() for group in groups}
    pruned = narrow(trained, importance, PruneConfig(latency_ms=1.0), budget)
    measured = full - 0.5 * (full - Widths(describe_layers(pruned), find_groups(pruned)).total(cost))
    after = corrected(budget, pruned, measured)
    assert Widths(describe_layers(pruned), find_groups(pruned)).total(after.cost) == pytest.approx(measured)
    assert Widths(layers, groups).total(after.cost) == pytest.approx(full) and after.goal == budget.goal


@pytest.mark.usefixtures("one_turn")
def test_latency_that_the_model_has_already_is_refused(trained: Checkpoint, data: CocoData, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="pip install 'edge-mrcnn[openvino]'")
    config = PruneConfig(latency_ms=1e6, runtime="openvino", threads=1, images=4)
    with pytest.raises(UsageError, match="--target-latency-ms 1e.06: expected less than .* ms"):
        prune_and_train(trained, data, tmp_path, config, replace(TOY, epochs=0), device="cpu")


def test_goes_in_steps_without_training(trained: Checkpoint, data: CocoData, tmp_path: Path) -> None:
    settings = replace(TOY, epochs=0)
    best = prune_and_train(trained, data, tmp_path, HALF, settings, iterations=2, device="cpu")
    first, last = load_checkpoint(tmp_path / "step-1" / "best.pt"), load_checkpoint(best)
    assert macs(last) <= 0.5 * macs(trained) < macs(first) < macs(trained)


def test_more_steps_than_epochs_are_refused(trained: Checkpoint, data: CocoData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="iterations"):
        prune_and_train(trained, data, tmp_path, HALF, TOY, iterations=4, device="cpu")


def test_data_of_other_classes_is_refused(trained: Checkpoint, data: CocoData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="classes"):
        prune_and_train(replace(trained, classes=("cat", "dog")), data, tmp_path, HALF, TOY, device="cpu")


def test_fine_tunes_as_the_model_was_trained_unless_told_otherwise() -> None:
    trained = {"lr": 1e-3, "optimizer": "adamw", "freeze_norm": True, "rois": 64, "batch": 4, "epochs": 20}
    inherited = fine_tuning(trained, 7, epochs=3, rois=None)
    assert (inherited.lr, inherited.optimizer, inherited.freeze_norm) == (5e-4, "adamw", True)
    assert (inherited.rois, inherited.batch, inherited.epochs, inherited.seed) == (64, 4, 3, 7)
    # Pruning removes channels of frozen stages too, so these are trained.
    assert fine_tuning({"freeze_stages": 2}, 0).freeze_stages == 0
    assert fine_tuning({}, 0, freeze_stages=1).freeze_stages == 1
    assert fine_tuning(trained, 0, lr=0.01).lr == 0.01 and fine_tuning({}, 0).batch == TrainConfig().batch


@pytest.mark.parametrize("runtime", ["onnx", "openvino", "tflite"])
def test_single_layers_run_on_every_runtime(runtime: str) -> None:
    pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")
    pytest.importorskip({"onnx": "onnxruntime", "tflite": "ai_edge_litert"}.get(runtime, runtime))
    kinds = {"conv": (3, 2), "depthwise": (3, 1), "deconv": (2, 2), "linear": (1, 1)}
    layers = [LayerProbe(kind, 8, 8, kernel, stride, 2, 6, 6) for kind, (kernel, stride) in kinds.items()]
    times = time_probes(layers, runtime, 1)
    assert list(times) == layers and all(0 < took < 1000 for took in times.values())


def test_time_between_measured_widths_is_bilinear() -> None:
    terms = fit_terms({(8, 4): 1 + 8 + 2 * 4 + 3 * 32, (4, 4): 1 + 4 + 2 * 4 + 3 * 16, (8, 2): 61.0, (4, 2): 33.0})
    cost = LatencyCost({"layer": terms}, base=5.0)
    assert cost.of_layer("layer", 6, 3) == pytest.approx(1 + 6 + 2 * 3 + 3 * 18)
    assert cost.of_layer("other", 6, 3) == 0


def test_a_disturbed_time_does_not_make_narrow_layers_slower() -> None:
    fixed, per_output, per_input, per_pair = fit_terms({(8, 8): 10.0, (4, 8): 30.0, (8, 4): 6.0, (4, 4): 3.0})
    assert fixed + 4 * per_output + 8 * per_input + 32 * per_pair == pytest.approx(10.0)

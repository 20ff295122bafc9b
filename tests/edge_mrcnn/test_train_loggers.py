"""Metrics of a training in MLflow and Weights & Biases, tested without a server, by their own files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")

import edge_mrcnn  # noqa: E402
from edge_mrcnn.config import TrainConfig  # noqa: E402
from edge_mrcnn.train.loggers import expect_logger  # noqa: E402
from runtimes.errors import MissingExtraError, UsageError  # noqa: E402


def test_package_that_is_missing_is_named_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match="--logger wandb needs wandb: pip install wandb"):
        expect_logger("wandb")
    expect_logger("tensorboard")


def test_unknown_logger_is_refused() -> None:
    with pytest.raises(UsageError, match="logger 'comet': expected tensorboard, mlflow or wandb"):
        TrainConfig(logger="comet")  # type: ignore[arg-type]


def train(data: Path, weights: Path, output: Path, logger: str) -> None:
    edge_mrcnn.train(data, output, weights=weights, epochs=1, workers=0, device="cpu", logger=logger)
    assert list((output / "tensorboard").glob("events*"))  # which stay, beside the other


def test_mlflow_gets_settings_losses_and_ap(toy_data, toy_checkpoint, tmp_path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'runs'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    train(toy_data, toy_checkpoint, tmp_path / "street", "mlflow")
    client = mlflow.tracking.MlflowClient(f"file:{tmp_path / 'runs'}")
    experiment = client.get_experiment_by_name("edge-mrcnn")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "street"
    assert run.data.params["epochs"] == "1" and run.data.params["images"] == "6"
    assert {"val/mask_ap", "val/box_ap"} <= set(run.data.metrics)
    assert any(name.startswith("loss/total") for name in run.data.metrics)


def test_wandb_keeps_a_run_where_there_is_no_network(toy_data, toy_checkpoint, tmp_path, monkeypatch) -> None:
    pytest.importorskip("wandb", reason="pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(toy_data, toy_checkpoint, tmp_path / "street", "wandb")
    assert list((tmp_path / "street" / "wandb").glob("offline-run-*/*.wandb"))

"""Loggers of a training besides its own files: TensorBoard, and MLflow or Weights & Biases on request."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.train.lightning_setup import EventFiles
from runtimes.errors import MissingExtraError

PROJECT = "edge-mrcnn"
"""MLflow experiment or Weights & Biases project, unless their own environment variables name another."""


def expect_logger(name: str) -> None:
    """Raise MissingExtraError unless the package of a logger can be imported; checked before hours of training."""
    if name == "tensorboard":
        return
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"--logger {name} needs {error.name or name}: pip install {name}") from error


def make_loggers(output: Path, config: TrainConfig, facts: Mapping[str, Any]) -> list[Logger]:
    """The loggers of a training.

    Args:
        output: Output folder, after which the run is named.
        config: Settings of the training, which are logged as well.
        facts: Further facts to log once.
    """
    loggers: list[Logger] = [EventFiles(output, name="", version="tensorboard")]
    if config.logger == "mlflow":
        loggers.append(_open_mlflow(output))
    elif config.logger == "wandb":
        loggers.append(_open_wandb(output))
    for logger in loggers[1:]:
        logger.log_hyperparams(dict(facts))
    return loggers


def _open_mlflow(output: Path) -> Logger:
    """A run on the server of MLFLOW_TRACKING_URI, or else in a database in the output folder."""
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{output.resolve() / 'mlflow.db'}"
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    return MLFlowLogger(experiment_name=experiment, run_name=output.name, tracking_uri=address)


def _open_wandb(output: Path) -> Logger:
    """A run of the project; WANDB_MODE=offline keeps it in the output folder."""
    return WandbLogger(project=os.environ.get("WANDB_PROJECT", PROJECT), name=output.name, save_dir=output)

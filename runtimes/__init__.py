"""Run an exported model: numpy, OpenCV and one SDK; no torch.

with runtimes.load("model.onnx") as model:
    detections = model.infer(image_rgb)
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from runtimes.base import FakeRuntime, RawOutputs, Runtime, warm_up
from runtimes.bundle import SUFFIX, model_file
from runtimes.errors import (
    DataError,
    EdgeError,
    GateError,
    ImageError,
    InferenceError,
    MissingExtraError,
    MissingFileError,
    ModelFileError,
    SourceError,
    UnknownFormatError,
    UsageError,
)
from runtimes.model_card import CARD_KEY, ModelCard
from runtimes.preprocess import read_image
from runtimes.quiet import quiet_stderr
from runtimes.types import Detections

__all__ = [
    "CARD_KEY",
    "FORMATS",
    "DataError",
    "Detections",
    "EdgeError",
    "FakeRuntime",
    "Format",
    "GateError",
    "ImageError",
    "InferenceError",
    "MissingExtraError",
    "MissingFileError",
    "ModelCard",
    "ModelFileError",
    "RawOutputs",
    "Runtime",
    "SourceError",
    "UnknownFormatError",
    "UsageError",
    "load",
    "read_card",
    "read_image",
]


class Format(NamedTuple):
    """How files of one suffix are opened."""

    module: str
    """The backend: it has `open_model(path, **options)` and `read_card(path)`, and imports the SDK."""
    extra: str
    """pip extra that installs the SDK."""


FORMATS = {
    ".onnx": Format("runtimes.onnx_backend", "onnx"),
    ".xml": Format("runtimes.openvino_backend", "openvino"),
    ".tflite": Format("runtimes.tflite_backend", "tflite"),
}
"""Suffix of a model file -> how it is opened."""


def load(path: str | Path, **options: Any) -> Runtime:
    """Open a model file in its own runtime and run it once.

    Args:
        path: A .onnx, .xml (OpenVINO) or .tflite that edge-mrcnn exported, or a bundle with one.
        **options: What `open_model` of that backend takes: `threads` everywhere; `device` and `cache_dir` (ONNX and
            OpenVINO), `providers` (ONNX), `precision` (OpenVINO).

    Raises:
        MissingFileError: If there is no such file.
        UnknownFormatError: If no runtime opens files of this suffix.
        MissingExtraError: If the SDK is not installed.
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
    """
    file = model_file(path)
    runtime: Runtime = import_backend(file).open_model(file, **options)
    with quiet_stderr():  # an SDK's remarks at the first run
        warm_up(path, runtime)
    return runtime


def read_card(path: str | Path) -> ModelCard:
    """The card of a model file, without making it ready to run; raises as `load` does."""
    file = model_file(path)
    card: ModelCard = import_backend(file).read_card(file)
    return card


def import_backend(path: Path) -> Any:
    """The module that opens this file; only now is its SDK imported."""
    _check_path(path)
    module, extra = FORMATS[path.suffix]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path}: {error.name} is not installed: pip install 'edge-mrcnn[{extra}]'") from error


def _check_path(path: Path) -> None:
    """Raise unless this is a file with a suffix that a runtime opens."""
    if path.is_dir():
        models = sorted(p.name for p in path.iterdir() if p.suffix in FORMATS)
        hint = f"name one of {', '.join(models)}" if models else f"it holds no {', '.join(FORMATS)}"
        raise UnknownFormatError(f"{path}: is a folder; {hint}")
    if path.suffix == ".bin":
        raise UnknownFormatError(
            f"{path}: holds the weights of an OpenVINO model; name {path.with_suffix('.xml').name}"
        )
    if path.suffix not in FORMATS:
        kinds = ", ".join((*FORMATS, SUFFIX))
        raise UnknownFormatError(f"{path}: expected a model file of kind {kinds}, got {path.suffix!r}")
    if not path.is_file():
        raise MissingFileError(f"{path}: no such model file")

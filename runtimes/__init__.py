"""Run an exported model: numpy, OpenCV and one SDK; no torch.

with runtimes.load("model.onnx") as model:
    detections = model.infer(image_rgb)
"""

from __future__ import annotations

from runtimes.base import FakeRuntime, RawOutputs, Runtime
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
from runtimes.formats import FORMATS, Format, OnnxOptions, OpenVinoOptions, TfliteOptions
from runtimes.loading import load, read_card
from runtimes.model_card import CARD_KEY, ModelCard
from runtimes.model_file import ModelFile
from runtimes.preprocess import read_image
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
    "ModelFile",
    "ModelFileError",
    "OnnxOptions",
    "OpenVinoOptions",
    "RawOutputs",
    "Runtime",
    "SourceError",
    "TfliteOptions",
    "UnknownFormatError",
    "UsageError",
    "load",
    "read_card",
    "read_image",
]

"""From a checkpoint to files that run without torch, each verified before it is returned."""

from __future__ import annotations

from typing import NamedTuple

from edge_mrcnn.callable_package import make_callable


class Target(NamedTuple):
    """How a format is written."""

    writer: str
    """Dotted name of a function of (DeployGraph, ModelCard, Path) and the options below."""
    is_static: bool = False
    """Whether shapes are always fixed, with one image per run."""
    options: tuple[str, ...] = ()
    """Fields of `ExportConfig` that the function takes by name."""
    check_static: str = ""
    """Dotted name of a function that finds operators not supported by the target of a static file."""


TARGETS = {
    "onnx": Target(
        "edge_mrcnn.export.onnx_target:write_onnx", options=("opset",), check_static="edge_mrcnn.export.tensorrt"
    ),
    "openvino": Target("edge_mrcnn.export.openvino_target:write_openvino"),
    "tflite": Target("edge_mrcnn.export.tflite_target:write_tflite", is_static=True),
}
"""Format -> how it is written."""

make_callable(__name__)

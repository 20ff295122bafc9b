"""From a checkpoint to files that run without torch, each verified before it is handed over."""

from __future__ import annotations

from typing import NamedTuple

from edge_mrcnn.callable_package import make_callable


class Target(NamedTuple):
    """How a format is written."""

    writer: str
    """Dotted name of what takes (DeployGraph, ModelCard, Path) and the options below."""
    is_static: bool = False
    """Whether shapes never depend on the data, and one run takes one image."""
    options: tuple[str, ...] = ()
    """Fields of `ExportConfig` that the writer takes by name."""
    check_static: str = ""
    """Dotted name of what finds the operators that a file of static shapes may not have where it is meant to go."""


TARGETS = {
    "onnx": Target(
        "edge_mrcnn.export.onnx_target:write_onnx", options=("opset",), check_static="edge_mrcnn.export.tensorrt"
    ),
    "openvino": Target("edge_mrcnn.export.openvino_target:write_openvino"),
    "tflite": Target("edge_mrcnn.export.tflite_target:write_tflite", is_static=True),
}
"""Format -> how it is written."""

make_callable(__name__)

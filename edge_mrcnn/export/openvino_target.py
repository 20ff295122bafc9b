"""The deploy graph as OpenVINO IR, via ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import openvino
from openvino import opset13

from edge_mrcnn.export import model_api
from edge_mrcnn.export.graph import DeployGraph
from edge_mrcnn.export.onnx_target import OPSET, convert
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile


def write_openvino(graph: DeployGraph, card: ModelCard, path: Path) -> None:
    """Convert and save `path` (.xml) and its .bin, weights in FP32.

    Args:
        graph: The graph to convert.
        card: Stored as runtime information, together with the `model_info` of OpenVINO's own tools.
        path: The .xml to write.
    """
    model = simplified(convert(graph, OPSET))
    for name, value in model_api.describe(card).items():
        model.set_rt_info(value, ["model_info", name])
    openvino.save_model(model, path, compress_to_fp16=False)
    ModelFile(path).write_card(card)


def simplified(model: onnx.ModelProto) -> openvino.Model:
    """The ONNX model in OpenVINO's operators, with shape arithmetic folded.

    Only `convert_model` runs those passes, and only on a file.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnx.save(model, file)
        converted = openvino.convert_model(file)
    raise_thresholds(converted)
    return converted


def raise_thresholds(model: openvino.Model) -> None:
    """Move IoU thresholds to the next float32, in place: OpenVINO suppresses at the threshold, ONNX above it."""
    for node in model.get_ops():
        if node.get_type_name() == "NonMaxSuppression":
            threshold = node.input_value(3).get_node().get_data().astype(np.float32)
            raised = opset13.constant(np.nextafter(threshold, np.float32(np.inf)))
            node.input(3).replace_source_output(raised.output(0))

"""Operators of an OpenVINO IR. A layer is integer when its input and its weights are quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino

from edge_mrcnn.inspection.operator import Operator
from runtimes.errors import ModelFileError, one_line

LEARNED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
PASSIVE = ("Constant", "Parameter", "Result")
MOVES = ("Reshape", "Transpose", "Split", "Slice", "ShuffleChannels", "MaxPool", "Concat", "Interpolate")
"""Operators that hand integers on as they are."""


def read_operators(path: Path) -> list[Operator]:
    """See `edge_mrcnn.inspection.list_operators`."""
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: OpenVINO cannot read it: {one_line(error)}") from error
    nodes = (node for node in model.get_ordered_ops() if node.get_type_name() not in PASSIVE)
    return [_operator(node) for node in nodes]


def _operator(node: Any) -> Operator:
    kind = node.get_type_name()
    is_learned = kind in LEARNED
    return Operator(kind, node.get_friendly_name(), is_learned, is_learned and _has_integer_operands(node))


def _has_integer_operands(node: Any) -> bool:
    data, weights = (node.input_value(i).get_node() for i in (0, 1))
    return _source(data) == "FakeQuantize" and _is_integer_constant(weights)


def _source(node: Any) -> str:
    while node.get_type_name() in MOVES:
        node = node.input_value(0).get_node()
    kind: str = node.get_type_name()
    return kind


def _is_integer_constant(node: Any) -> bool:
    """Follow the arithmetic that scales stored integers back to the constant itself."""
    while node.get_type_name() in ("Multiply", "Subtract", "Convert", "Reshape"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant" and node.get_output_element_type(0).size == 1)

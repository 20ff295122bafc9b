"""Operators of an OpenVINO IR.

A layer runs in INT8 if its input and its weights are quantized. Operators between it and the next FakeQuantize are
fused into it, and operators that only move values do so with integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino

from edge_mrcnn.inspection.operator import Operator
from runtimes.errors import ModelFileError, one_line

LEARNED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
PASSIVE = ("Constant", "Parameter", "Result")
SCALES = ("Multiply", "Subtract", "Convert", "Reshape")
"""Operators between stored integer weights and their layer."""
MOVES = ("Reshape", "Transpose", "Split", "Slice", "ShuffleChannels", "MaxPool", "Concat", "Interpolate")
"""Operators that move integers unchanged."""
FUSED = ("Add", "Multiply", "Relu", "PRelu", "Clamp", "HSwish", "Sigmoid")
"""Operators that are fused into the layer before them."""


def read_operators(path: Path) -> list[Operator]:
    """See `edge_mrcnn.inspection.list_operators`."""
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: OpenVINO cannot read it: {one_line(error)}") from error
    nodes = []
    for node in model.get_ordered_ops():
        if node.get_type_name() not in PASSIVE and not _is_scaling(node):
            nodes.append(node)
    places = {node.get_friendly_name(): index for index, node in enumerate(nodes)}
    return [_operator(node, places) for node in nodes]


def _is_scaling(node: Any) -> bool:
    """Whether a node only converts stored integers to weights."""
    return node.get_type_name() in SCALES and _constant(node) is not None


def _operator(node: Any, places: dict[str, int]) -> Operator:
    kind = node.get_type_name()
    weights = _count_weights(node) if kind in LEARNED else 0
    sources: dict[int, None] = {}  # each once, in order
    for value in node.input_values():
        name = value.get_node().get_friendly_name()
        if name in places:
            sources[places[name]] = None
    return Operator(
        kind=kind,
        name=node.get_friendly_name(),
        weights=weights,
        is_integer=_is_integer_layer(node) if weights else _is_between_integers(node),
        is_wiring=kind in ("FakeQuantize", "Convert", *MOVES, *FUSED),
        sources=tuple(sources),
    )


def _count_weights(node: Any) -> int:
    """Number of values in a layer's weights and bias; 0 for computed values."""
    constant = _constant(node.input_value(1).get_node())
    if constant is None:
        return 0
    count = _size(constant)
    for target in node.output(0).get_target_inputs():
        follower = target.get_node()
        if follower.get_type_name() != "Add":
            continue
        bias = _constant(follower.input_value(1).get_node())
        if bias is not None:
            count += _size(bias)
    return count


def _size(constant: Any) -> int:
    count = 1
    for side in constant.get_output_shape(0):
        count *= side
    return count


def _constant(node: Any) -> Any | None:
    """The constant behind scaling arithmetic; None for computed values."""
    while node.get_type_name() in SCALES:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "Constant" else None


def _is_integer_layer(node: Any) -> bool:
    constant = _constant(node.input_value(1).get_node())
    if constant is None or _source(node) != "FakeQuantize":
        return False
    bytes_of_weight: int = constant.get_output_element_type(0).size
    return bytes_of_weight == 1


def _is_between_integers(node: Any) -> bool:
    """Whether an operator that moves values does so between a FakeQuantize and an INT8 layer."""
    return node.get_type_name() in MOVES and _source(node) == "FakeQuantize"


def _source(node: Any) -> str:
    """Kind of the operator that produces a node's data, ignoring operators that move values."""
    node = node.input_value(0).get_node()
    while node.get_type_name() in MOVES:
        node = node.input_value(0).get_node()
    kind: str = node.get_type_name()
    return kind

"""FP16 for ONNX: learned layers compute in half precision, between casts; for GPUs and TensorRT."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from quantize.parts import part_of

FLOAT_INPUTS = {"Resize": {1, 2}}
"""Operator -> positions of inputs that are always float32."""
SUFFIX = "/half"
"""Suffix of the name of a value in half precision."""


def halve_onnx(model: Path, output: Path) -> None:
    """See `edge_mrcnn.export.half.halve`."""
    proto = onnx.load(model)
    convert_layers(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, output)


def convert_layers(model: ModelProto) -> None:
    """Convert the nodes of learned layers to half precision, in place.

    Their outputs are cast back for other nodes, and their inputs are cast once; unused casts are removed.
    """
    floats = _float_values(model)
    weights = [tensor for tensor in model.graph.initializer if tensor.name in floats]
    model.graph.initializer.extend(map(_halve, weights))
    # Values that already exist in half precision.
    halved = {tensor.name for tensor in weights}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if part_of(node.name) is None:
            nodes.append(node)
            continue
        taken = _data_inputs(node) & floats
        made = floats.intersection(node.output)
        for name in sorted(taken - halved):
            nodes.append(_cast(name, name + SUFFIX, TensorProto.FLOAT16))
        node.input[:] = _with_suffix(node.input, taken)
        node.output[:] = _with_suffix(node.output, made)
        nodes.append(node)
        for name in sorted(made):
            nodes.append(_cast(name + SUFFIX, name, TensorProto.FLOAT))
        halved |= taken | made
    _replace_nodes(model, nodes)


def _data_inputs(node: NodeProto) -> set[str]:
    """Inputs of a node, without those that are always float32."""
    always_float = FLOAT_INPUTS.get(node.op_type, set())
    return {name for place, name in enumerate(node.input) if place not in always_float}


def _with_suffix(names: Iterable[str], halved: set[str]) -> list[str]:
    return [name + SUFFIX if name in halved else name for name in names]


def _float_values(model: ModelProto) -> set[str]:
    """Names of all values and weights in float32."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    kinds: dict[str, int] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kinds[value.name] = value.type.tensor_type.elem_type
    for tensor in graph.initializer:
        kinds[tensor.name] = tensor.data_type
    return {name for name, kind in kinds.items() if kind == TensorProto.FLOAT}


def _halve(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    return numpy_helper.from_array(values.astype(np.float16), tensor.name + SUFFIX)


def _cast(source: str, result: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"cast/{result}", to=kind)


def _replace_nodes(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Set the nodes of a graph, without unused casts and weights; information about values is removed."""
    graph = model.graph
    nodes = list(nodes)
    read = {value.name for value in graph.output}
    for node in nodes:
        read.update(node.input)
    kept = [node for node in nodes if node.op_type != "Cast" or node.output[0] in read]
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    for field in (graph.node, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)

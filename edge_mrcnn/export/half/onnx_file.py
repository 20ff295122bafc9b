"""FP16 for ONNX: learned layers compute in half precision, between casts; GPUs and TensorRT run them so."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from quantize.parts import part_of

FLOAT_INPUTS = {"Resize": {1, 2}}
"""Operator -> places of its inputs that are float32 whatever its data is."""
SUFFIX = "/half"
"""Behind the name of a value in half precision."""


def halve_onnx(model: Path, output: Path) -> None:
    """See `edge_mrcnn.export.half.halve`."""
    proto = onnx.load(model)
    convert_layers(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, output)


def convert_layers(model: ModelProto) -> None:
    """Let the nodes of learned layers take and give half precision, in place.

    What they make is cast back for others, what they take from others is cast once; a cast that nothing reads goes.
    """
    floats = _float_values(model)
    known = {tensor.name for tensor in model.graph.initializer if tensor.name in floats}
    model.graph.initializer.extend([_halve(t) for t in model.graph.initializer if t.name in known])
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if part_of(node.name) is None:
            nodes.append(node)
            continue
        taken = {name for place, name in enumerate(node.input) if _is_data(node, place) and name in floats}
        nodes += [_cast(name, name + SUFFIX, TensorProto.FLOAT16) for name in sorted(taken - known)]
        made = {name for name in node.output if name in floats}
        known |= taken | made
        node.input[:] = [name + SUFFIX if name in taken else name for name in node.input]
        node.output[:] = [name + SUFFIX if name in made else name for name in node.output]
        nodes += [node, *(_cast(name + SUFFIX, name, TensorProto.FLOAT) for name in sorted(made))]
    _replace_nodes(model, nodes)


def _float_values(model: ModelProto) -> set[str]:
    """Names of all values and weights in float32."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    typed = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    typed |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name for name, kind in typed.items() if kind == TensorProto.FLOAT}


def _is_data(node: NodeProto, place: int) -> bool:
    return place not in FLOAT_INPUTS.get(node.op_type, ())


def _halve(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name + SUFFIX)


def _cast(source: str, result: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"cast/{result}", to=kind)


def _replace_nodes(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Give a graph these nodes, without the casts and weights that nothing reads; what was known of values goes."""
    graph = model.graph
    nodes = list(nodes)
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    kept = [node for node in nodes if node.op_type != "Cast" or node.output[0] in read]
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    for field in (graph.node, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)

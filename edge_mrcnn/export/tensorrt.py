"""Check whether TensorRT supports an ONNX file: its own list of operators as a table, and a check of each node.

The table is that of TensorRT 10.15, onnx-tensorrt's docs/operators.md
(https://github.com/onnx/onnx-tensorrt/blob/release/10.15-GA/docs/operators.md), limited to operators that TensorRT
supports unconditionally or under a condition in `RULES`; all others are reported as unknown. TensorRT itself is not
used, because it needs an NVIDIA GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

NAME = "TensorRT"
"""Name of the tool."""
VERSION = "10.15"
"""Its version."""
OPSETS = range(9, 25)
"""Supported opsets of ONNX."""
LARGEST_K = 3839
"""Maximum K of TopK."""

FLOATS = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"})  # a double is converted to a float
NUMBERS = FLOATS | {"INT32", "INT64"}
ANY = NUMBERS | {"BOOL"}
QUANTIZED = frozenset({"INT8"})

_OPERATORS = {
    FLOATS: "Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos "
    "Cosh CumSum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish InstanceNormalization "
    "IsInf LeakyRelu Log LogSoftmax MatMul MaxPool Mish NonMaxSuppression NonZero PRelu QuantizeLinear Reciprocal "
    "Resize RoiAlign Round Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample",
    NUMBERS: "Abs Add ArgMax ArgMin DepthToSpace Div Equal Gelu Greater GreaterOrEqual IsNaN Less LessOrEqual Max Mean "
    "Min Mod Mul Neg Pad Pow Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
    "ReduceProd ReduceSum ReduceSumSquare Relu ScatterElements ScatterND Shrink Sign SpaceToDepth Sub Sum TopK",
    ANY: "Concat Constant ConstantOfShape Expand EyeLike Flatten Gather GatherElements GatherND Identity Reshape Shape "
    "Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where",
    ANY | {"UINT8"}: "Cast CastLike",
    QUANTIZED: "DequantizeLinear",
    frozenset({"BOOL"}): "And Not Or Xor",
}
OPERATORS = {name: types for types, names in _OPERATORS.items() for name in names.split()}
"""Operator -> element types of its data, by ONNX's names."""

_SETTINGS = {
    "CumSum": {1}, "DequantizeLinear": {1, 2}, "Expand": {1}, "Gather": {1}, "GatherElements": {1}, "GatherND": {1},
    "NonMaxSuppression": {2}, "Pad": {1, 3}, "QuantizeLinear": {1, 2}, "Reshape": {1}, "Resize": {1, 2, 3},
    "RoiAlign": {2}, "ScatterElements": {1}, "ScatterND": {1}, "Slice": {1, 2, 3, 4}, "Split": {1}, "Squeeze": {1},
    "Tile": {1}, "TopK": {1}, "Unsqueeze": {1}, "Where": {0}, "ConstantOfShape": {0},
}  # fmt: skip
"""Operator -> positions of inputs that are indices, sizes, scales or conditions with a type of their own."""


@dataclass(frozen=True)
class Violation:
    """Why TensorRT would reject a node."""

    node: str
    """Its name, or "graph"."""
    kind: str
    """Its operator."""
    problem: str
    """The reason."""

    def __str__(self) -> str:
        where = f"{self.node} ({self.kind})" if self.kind else self.node
        return f"{where}: {self.problem}"


class _Graph:
    """Facts about a model for the rules: types, constants and shapes by the names of values."""

    def __init__(self, model: ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.nodes = list(inferred.node)
        values = (*inferred.input, *inferred.output, *inferred.value_info)
        self.values = {value.name: value.type.tensor_type for value in values}
        self.constants = {tensor.name: tensor for tensor in inferred.initializer}
        for node in self.nodes:
            value = _attribute(node, "value", None) if node.op_type == "Constant" else None
            if value is not None:
                self.constants[node.output[0]] = value

    def type_of(self, name: str) -> str | None:
        """The element type of a value, None if unknown."""
        if name in self.constants:
            number = self.constants[name].data_type
        elif name in self.values:
            number = self.values[name].elem_type
        else:
            return None
        return str(TensorProto.DataType.Name(number))

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a constant, None for others."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def is_fixed(self, name: str) -> bool:
        """Whether all dimensions of a value are known."""
        if name in self.constants:
            return True
        if name not in self.values:
            return False
        return all(dim.HasField("dim_value") for dim in self.values[name].shape.dim)


def find_violations(model: ModelProto | str | Path, *, static: bool = True) -> list[Violation]:
    """All nodes of a model that TensorRT would reject, according to its table.

    Args:
        model: An ONNX model, or its file.
        static: Also reject shapes that depend on the data: with them, an engine can neither be captured in a CUDA graph
            nor have its output memory allocated in advance.
    """
    model = model if isinstance(model, ModelProto) else onnx.load(model)
    graph = _Graph(model)
    found = [Violation("graph", "", problem) for problem in _check_opsets(model)]
    for node in graph.nodes:
        problems = list(_check_operator(node, graph))
        if static:
            problems += _check_shapes(node, graph)
        for problem in problems:
            found.append(Violation(node.name or node.output[0], node.op_type, problem))
    return found


def _check_opsets(model: ModelProto) -> Iterator[str]:
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version not in OPSETS:
            yield f"opset {opset.version}, expected {OPSETS[0]} to {OPSETS[-1]}"


def _check_operator(node: NodeProto, graph: _Graph) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"operator of the domain {node.domain}"
    elif node.op_type not in OPERATORS:
        yield f"TensorRT {VERSION} does not support this operator"
    else:
        yield from _check_types(node, graph)
        for rule in RULES.get(node.op_type, ()):
            yield from rule(node, graph)


def _check_types(node: NodeProto, graph: _Graph) -> Iterator[str]:
    allowed = OPERATORS[node.op_type]
    settings = _SETTINGS.get(node.op_type, set())
    for place, name in enumerate(node.input):
        is_left_out = not name
        if is_left_out or place in settings:
            continue
        kind = graph.type_of(name)
        if kind is not None and kind not in allowed:
            yield f"input {place} is {kind}, expected {', '.join(sorted(allowed))}"


def _check_shapes(node: NodeProto, graph: _Graph) -> Iterator[str]:
    unknown = [name for name in node.output if name and not graph.is_fixed(name)]
    if unknown:
        yield f"the shape of {', '.join(unknown)} depends on the data"


def _rule_topk(node: NodeProto, graph: _Graph) -> Iterator[str]:
    k = graph.constant(node.input[1])
    if k is None:
        yield "K is not a constant"
    elif k.item() > LARGEST_K:
        yield f"K is {k.item()}, expected at most {LARGEST_K}"
    if _attribute(node, "sorted", 1) != 1:
        yield "not sorted"


def _rule_zero_point(node: NodeProto, graph: _Graph) -> Iterator[str]:
    has_zero_point = len(node.input) > 2 and bool(node.input[2])
    if not has_zero_point:
        if node.op_type == "QuantizeLinear" and _attribute(node, "output_dtype", 0) == 0:
            yield "it has no zero point and so quantizes to UINT8, expected INT8"
        return
    zero = graph.constant(node.input[2])
    kind = graph.type_of(node.input[2])
    if kind not in QUANTIZED:
        yield f"quantized type {kind}, expected INT8"
    if zero is None or np.any(zero):
        yield "the zero point is not a constant 0: quantize symmetrically"


def _rule_constant_axes(node: NodeProto, graph: _Graph) -> Iterator[str]:
    has_axes = len(node.input) > 1 and bool(node.input[1])
    if has_axes and graph.constant(node.input[1]) is None:
        yield "its axes are not a constant"


def _rule_window(node: NodeProto, graph: _Graph) -> Iterator[str]:
    if len(_attribute(node, "kernel_shape", [1, 1])) > 3:
        yield "expected a 2D or 3D window"
    if node.op_type.endswith("Pool") and set(_attribute(node, "dilations", [1])) != {1}:
        yield "dilated pooling is not supported"
    if node.op_type == "MaxPool" and len(node.output) > 1:
        yield "indices of pooling are not supported"


def _rule_resize(node: NodeProto, graph: _Graph) -> Iterator[str]:
    if _attribute(node, "mode", b"nearest") not in (b"nearest", b"linear"):
        yield "expected mode nearest or linear"
    if _attribute(node, "antialias", 0):
        yield "antialiasing is not supported"
    if _attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize":
        yield "cropping is not supported"


def _rule_scatter(node: NodeProto, graph: _Graph) -> Iterator[str]:
    if _attribute(node, "reduction", b"none") != b"none":
        yield "expected no reduction"


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


Rule = Callable[[NodeProto, _Graph], Iterator[str]]

RULES: dict[str, tuple[Rule, ...]] = {
    "TopK": (_rule_topk,),
    "QuantizeLinear": (_rule_zero_point,),
    "DequantizeLinear": (_rule_zero_point,),
    "ScatterND": (_rule_scatter,),
    "Resize": (_rule_resize,),
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool"), (_rule_window,)),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "CumSum"), (_rule_constant_axes,)),
    **{name: (_rule_constant_axes,) for name in OPERATORS if name.startswith("Reduce")},
}
"""Operator -> conditions under which TensorRT supports it."""

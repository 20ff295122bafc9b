"""Operators of a TFLite file, all signatures together. A layer is integer when its operands are int8."""

from __future__ import annotations

from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

from edge_mrcnn.inspection.operator import Operator
from runtimes.errors import ModelFileError

LEARNED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def read_operators(path: Path) -> list[Operator]:
    """See `edge_mrcnn.inspection.list_operators`."""
    buffer = path.read_bytes()
    if len(buffer) < 8 or not schema.Model.ModelBufferHasIdentifier(buffer, 0):
        raise ModelFileError(f"{path}: not a TFLite file")
    model = schema.ModelT.InitFromPackedBuf(buffer, 0)
    codes = [_name(code) for code in model.operatorCodes]
    return [
        _operator(codes[node.opcodeIndex], graph.tensors, node) for graph in model.subgraphs for node in graph.operators
    ]


def _operator(kind: str, tensors: list[schema.TensorT], node: schema.OperatorT) -> Operator:
    operands = [tensors[i] for i in node.inputs if i >= 0]
    is_integer = kind in LEARNED and all(t.type == schema.TensorType.INT8 for t in operands[:2])
    name = tensors[node.outputs[0]].name.decode()
    return Operator(kind, _module_path(name), kind in LEARNED, is_integer)


def _module_path(name: str) -> str:
    """ "x.DetectSignature/y.PyramidBackbone_pyramid/z.StagedBackbone_body;7" to "pyramid.body"."""
    scopes = name.split(";")[0].split("/")[1:]
    return ".".join(scope.rsplit(".", 1)[-1].split("_", 1)[-1] for scope in scopes)


def _name(code: schema.OperatorCodeT) -> str:
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    return f"CUSTOM:{code.customCode.decode()}" if builtin == schema.BuiltinOperator.CUSTOM else NAMES[builtin]

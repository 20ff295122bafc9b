"""Operators of an ONNX file. A layer is integer when both its operands come out of DequantizeLinear."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edge_mrcnn.inspection.operator import Operator
from runtimes.errors import ModelFileError

LEARNED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def read_operators(path: Path) -> list[Operator]:
    """See `edge_mrcnn.inspection.list_operators`."""
    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise ModelFileError(f"{path}: not an ONNX file, or a damaged one") from error
    dequantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return [
        Operator(node.op_type, node.name, node.op_type in LEARNED, dequantized.issuperset(node.input[:2]))
        for node in graph.node
    ]

"""Operators of an ONNX file.

If all operands of an operator come from DequantizeLinear, and for most operators also all results go to QuantizeLinear,
ONNX Runtime executes them together as one INT8 operator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from edge_mrcnn.inspection.operator import Operator
from runtimes.errors import ModelFileError

LEARNED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BRIDGES = ("QuantizeLinear", "DequantizeLinear")
MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "Slice", "Concat", "Identity", "Flatten")


def read_operators(path: Path) -> list[Operator]:
    """See `edge_mrcnn.inspection.list_operators`."""
    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise ModelFileError(f"{path}: not an ONNX file, or a damaged one") from error
    return _OnnxGraph(graph).read()


class _OnnxGraph:
    """Producers and consumers of the nodes of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.constants = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
        self.maker: dict[str, int] = {}
        self.readers: dict[str, set[str]] = {}
        for index, node in enumerate(self.nodes):
            for name in node.output:
                self.maker[name] = index
            for name in node.input:
                self.readers.setdefault(name, set()).add(node.op_type)

    def read(self) -> list[Operator]:
        return [self._operator(node) for node in self.nodes]

    def _operator(self, node: onnx.NodeProto) -> Operator:
        sources: dict[int, None] = {}  # each once, in order
        for name in node.input:
            if name in self.maker:
                sources[self.maker[name]] = None
        return Operator(
            kind=node.op_type,
            name=node.name,
            weights=self._count_weights(node),
            is_integer=node.op_type not in BRIDGES and self._is_integer(node),
            is_wiring=node.op_type in BRIDGES + MOVES,
            sources=tuple(sources),
        )

    def _count_weights(self, node: onnx.NodeProto) -> int:
        """Number of weights and biases of a learned layer; 0 for other nodes."""
        if node.op_type not in LEARNED or not self._count(node.input[1]):
            return 0
        return sum(self._count(name) for name in node.input[1:])

    def _count(self, name: str) -> int:
        """Number of values in a constant, dequantized or not; 0 for computed values."""
        if name not in self.maker:
            return self.constants.get(name, 0)
        node = self.nodes[self.maker[name]]
        return self._count(node.input[0]) if node.op_type == "DequantizeLinear" else 0

    def _is_integer(self, node: onnx.NodeProto) -> bool:
        operands = [name for name in node.input[:2] if name in self.maker or node.op_type in LEARNED]
        if not operands or not all(self._is_dequantized(name) for name in operands):
            return False
        return node.op_type in LEARNED or all(self._is_requantized(name) for name in node.output)

    def _is_requantized(self, name: str) -> bool:
        """Whether all consumers of a result quantize it again."""
        return self.readers.get(name) == {"QuantizeLinear"}

    def _is_dequantized(self, name: str) -> bool:
        return name in self.maker and self.nodes[self.maker[name]].op_type == "DequantizeLinear"

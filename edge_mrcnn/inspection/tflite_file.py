"""Operators of a TFLite file, of all signatures. A layer runs in INT8 if its operands are int8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_mrcnn.inspection.operator import Operator
from quantize.parts import module_path
from runtimes.errors import ModelFileError

LEARNED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")
BRIDGES = ("QUANTIZE", "DEQUANTIZE")
MOVES = ("RESHAPE", "TRANSPOSE", "SLICE", "CONCATENATION", "SPLIT")
NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def read_operators(path: Path) -> list[Operator]:
    """See `edge_mrcnn.inspection.list_operators`."""
    buffer = path.read_bytes()
    if len(buffer) < 8 or not schema.Model.ModelBufferHasIdentifier(buffer, 0):
        raise ModelFileError(f"{path}: not a TFLite file")
    model = schema.ModelT.InitFromPackedBuf(buffer, 0)
    codes = [_name(code) for code in model.operatorCodes]
    operators: list[Operator] = []
    for graph in model.subgraphs:
        operators.extend(_TfliteGraph(model, graph, len(operators)).read(codes))
    return operators


class _TfliteGraph:
    """Producers and consumers of the nodes of one signature."""

    def __init__(self, model: schema.ModelT, graph: schema.SubGraphT, offset: int) -> None:
        self.graph = graph
        self.tensors = graph.tensors
        self.constants: dict[int, int] = {}
        for index, tensor in enumerate(graph.tensors):
            if model.buffers[tensor.buffer].data is not None:
                self.constants[index] = int(np.prod(tensor.shape))
        self.maker: dict[int, int] = {}
        for index, node in enumerate(graph.operators, start=offset):
            for output in node.outputs:
                self.maker[output] = index

    def read(self, codes: list[str]) -> list[Operator]:
        return [self._operator(codes[node.opcodeIndex], node) for node in self.graph.operators]

    def _operator(self, kind: str, node: schema.OperatorT) -> Operator:
        operands = [index for index in node.inputs if index >= 0]  # -1 is an omitted input
        sources: dict[int, None] = {}  # each once, in order
        for index in operands:
            if index in self.maker:
                sources[self.maker[index]] = None
        return Operator(
            kind=kind,
            name=module_path(self.tensors[node.outputs[0]].name.decode()),
            weights=self._count_weights(operands) if kind in LEARNED else 0,
            is_integer=kind not in BRIDGES and self._has_int8([*operands, node.outputs[0]]),
            is_wiring=kind in BRIDGES + MOVES,
            sources=tuple(sources),
        )

    def _count_weights(self, operands: Sequence[int]) -> int:
        count = 0
        for index in operands:
            if index in self.constants and self._is_number(index):
                count += self.constants[index]
        return count

    def _has_int8(self, ends: Sequence[int]) -> bool:
        """Whether any computed operand or result is int8."""
        computed = [self.tensors[index] for index in ends if index not in self.constants]
        return any(tensor.type == schema.TensorType.INT8 for tensor in computed)

    def _is_number(self, index: int) -> bool:
        """Whether a constant is a weight, or a bias, which is int32 with int8 weights; not a shape."""
        tensor = self.tensors[index]
        if tensor.type != schema.TensorType.INT32:
            return True
        return tensor.quantization is not None and len(self._scales(index)) > 0

    def _scales(self, index: int) -> list[float]:
        scale = self.tensors[index].quantization.scale
        return [] if scale is None else list(scale)


def _name(code: schema.OperatorCodeT) -> str:
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    return f"CUSTOM:{code.customCode.decode()}" if builtin == schema.BuiltinOperator.CUSTOM else NAMES[builtin]

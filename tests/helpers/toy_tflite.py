"""A TFLite file written operator by operator with the schema that LiteRT ships: no converter, no torch.

It keeps the contract of `runtimes.tflite_backend`: two signatures, `detect` and `mask`, of one subgraph each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}
OPTIONS = {"MEAN": "ReducerOptions"}  # where the schema does not name an operator's options after it


class Model:
    """A model whose subgraphs are added one by one."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.buffers = [_buffer(b"")]  # the first is empty, and every tensor without a value names it
        self.subgraphs: list[Any] = []
        self._signatures: list[Any] = []

    def find_code(self, operator: int) -> int:
        """The index of a builtin operator in the model's table, where it is entered once."""
        if operator not in self.codes:
            self.codes.append(operator)
        return self.codes.index(operator)

    def add_buffer(self, value: np.ndarray) -> int:
        self.buffers.append(_buffer(value.tobytes()))
        return len(self.buffers) - 1

    def add_signature(self, name: str, graph: Graph, outputs: dict[str, int]) -> None:
        """Close a subgraph; callers will find it by its name."""
        graph.made.name = name.encode()
        graph.made.inputs = list(graph.inputs.values())
        graph.made.outputs = list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey = name.encode()
        signature.inputs = _name_tensors(graph.inputs)
        signature.outputs = _name_tensors(outputs)
        signature.subgraphIndex = len(self.subgraphs)
        self.subgraphs.append(graph.made)
        self._signatures.append(signature)

    def write(self, path: Path) -> None:
        model = schema.ModelT()
        model.version = SCHEMA_VERSION
        model.description = b"toy"
        model.operatorCodes = [_operator_code(code) for code in self.codes]
        model.buffers = self.buffers
        model.subgraphs = self.subgraphs
        model.signatureDefs = self._signatures
        builder = flatbuffers.Builder(0)
        builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
        path.write_bytes(bytes(builder.Output()))


class Graph:
    """A subgraph of a model; every method adds something and gives the index of its tensor."""

    def __init__(self, model: Model) -> None:
        self.inputs: dict[str, int] = {}
        self.made = schema.SubGraphT()
        self.made.tensors, self.made.operators = [], []
        self._model = model

    def take(self, name: str, shape: tuple[int, ...], kind: str = "float32") -> int:
        """An input."""
        self.inputs[name] = self._add_tensor(shape, kind, name=name)
        return self.inputs[name]

    def hold(self, value: np.ndarray) -> int:
        """A constant."""
        return self._add_tensor(value.shape, value.dtype.name, buffer=self._model.add_buffer(value))

    def run(
        self, operator: str, inputs: list[int], shape: tuple[int, ...], kind: str = "float32", **options: Any
    ) -> int:
        """The output of a builtin operator, by its name in the schema: `run("STRIDED_SLICE", ...)`."""
        output = self._add_tensor(shape, kind)
        made = schema.OperatorT()
        made.opcodeIndex = self._model.find_code(getattr(schema.BuiltinOperator, operator))
        made.inputs, made.outputs = inputs, [output]
        title = OPTIONS.get(operator) or f"{operator.title().replace('_', '')}Options"
        made.builtinOptionsType = getattr(schema.BuiltinOptions, title)
        made.builtinOptions = getattr(schema, f"{title}T")()
        vars(made.builtinOptions).update(options)
        self.made.operators.append(made)
        return output

    def _add_tensor(self, shape: tuple[int, ...], kind: str, name: str | None = None, buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.shape = list(shape)
        tensor.type = TYPES[kind]
        tensor.name = (name or f"t{len(self.made.tensors)}").encode()
        tensor.buffer = buffer
        self.made.tensors.append(tensor)
        return len(self.made.tensors) - 1


def write_toy(path: Path, scene: Any, batch: int) -> None:
    """Write the file of a scene (see `tests/conftest.py`), without a card; `mask` takes `batch` boxes at a time."""
    model = Model()
    _add_detect(model, scene)
    _add_mask(model, scene, batch)
    model.write(path)


def _add_detect(model: Model, scene: Any) -> None:
    """As many rows stay alive as the red value of the first pixel says; the others are multiplied by zero."""
    graph = Graph(model)
    rows = len(scene.boxes)
    height, width = scene.card.input_size_hw
    image = graph.take("image", (1, height, width, 3), "uint8")

    corner = _slice(graph, image, [1, 1, 1, 1], (1, 1, 1, 1), "uint8")
    red = graph.run("RESHAPE", [corner, _ints(graph, [1])], (1,), "uint8", newShape=[1])
    count = graph.run("CAST", [red], (1,))
    order = graph.hold(np.arange(rows, dtype=np.float32))
    live = graph.run("CAST", [graph.run("LESS", [order, count], (rows,), "bool")], (rows,))
    live_column = graph.run("RESHAPE", [live, _ints(graph, [rows, 1])], (rows, 1), newShape=[rows, 1])
    live_int = graph.run("CAST", [live], (rows,), "int32")

    pixels = graph.run("CAST", [image], (1, height, width, 3))
    planes = graph.run("TRANSPOSE", [pixels, _ints(graph, [0, 3, 1, 2])], (1, 3, height, width))
    p0 = graph.run("MUL", [planes, _float(graph, 1 / 255)], (1, 3, height, width))
    half = (1, 3, height // 2, width // 2)
    thinned = _slice(graph, p0, [1, 3, height, width], half, strides=[1, 1, 2, 2])
    labels = graph.hold(scene.labels.astype(np.int32))
    outputs = {
        "boxes": graph.run("MUL", [graph.hold(scene.boxes), live_column], (rows, 4)),
        "scores": graph.run("MUL", [graph.hold(scene.scores), live], (rows,)),
        "labels": graph.run("MUL", [labels, live_int], (rows,), "int32"),
        "p0": p0,
        "p1": graph.run("MUL", [thinned, _float(graph, 2)], half),
    }
    model.add_signature("detect", graph, outputs)


def _add_mask(model: Model, scene: Any, batch: int) -> None:
    """The disc of class 0, weaker for class 1; the pyramid goes in with weight zero, so that it cannot be left out."""
    graph = Graph(model)
    height, width = scene.card.input_size_hw
    side = scene.masks.shape[-1]
    p0 = graph.take("p0", (1, 3, height, width))
    p1 = graph.take("p1", (1, 3, height // 2, width // 2))
    graph.take("boxes", (batch, 4))
    labels = graph.run("CAST", [graph.take("labels", (batch,), "int32")], (batch,))

    loss = graph.run("MUL", [labels, _float(graph, 0.2)], (batch,))
    kept = graph.run("SUB", [_float(graph, 1), loss], (batch,))
    column = graph.run("RESHAPE", [kept, _ints(graph, [batch, 1, 1])], (batch, 1, 1), newShape=[batch, 1, 1])
    disc = graph.hold(scene.masks[0])
    masks = graph.run("MUL", [column, disc], (batch, side, side))

    means = [graph.run("MEAN", [level, _ints(graph, [0, 1, 2, 3])], ()) for level in (p0, p1)]
    nothing = graph.run("MUL", [graph.run("ADD", means, ()), _float(graph, 0)], ())
    model.add_signature("mask", graph, {"masks": graph.run("ADD", [masks, nothing], (batch, side, side))})


def _slice(
    graph: Graph, tensor: int, end: list[int], shape: tuple[int, ...], kind: str = "float32", strides: Any = (1,) * 4
) -> int:
    """A slice of four axes from their start."""
    bounds = [_ints(graph, values) for values in ([0] * 4, end, list(strides))]
    return graph.run("STRIDED_SLICE", [tensor, *bounds], shape, kind)


def _ints(graph: Graph, values: list[int]) -> int:
    return graph.hold(np.array(values, dtype=np.int32))


def _float(graph: Graph, value: float) -> int:
    return graph.hold(np.array(value, dtype=np.float32))


def _buffer(data: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, dtype=np.uint8) if data else None
    return buffer


def _name_tensors(tensors: dict[str, int]) -> list[Any]:
    entries = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        entries.append(entry)
    return entries


def _operator_code(code: int) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = made.deprecatedBuiltinCode = code  # all of ours are below 127, where both say the same
    made.version = 1
    return made

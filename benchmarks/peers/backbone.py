"""The lower bound of time: the backbone of a file alone, cut out of the file, so that it is lowered and quantized in
the same form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.yolo import open_session
from runtimes.formats import format_of

PYRAMID = "pyramid.fpn.inner_blocks"
"""Prefix of the names of the nodes that read a backbone's maps."""


def cut_backbone(file: Path) -> Path:
    """Write the nodes that compute the backbone's maps to a file beside this one."""
    output = file.with_name(f"{file.stem}-backbone{file.suffix}")
    if not output.is_file():
        _CUTTERS[format_of(file).name](file, output)
    return output


def open_backbone(file: Path, threads: int) -> Callable[[], Any]:
    """A function that runs the backbone of a file on a plain image."""
    import runtimes

    shape = (1, *runtimes.read_card(file).input_size_hw, 3)
    run = open_session(cut_backbone(file), threads)
    image: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return lambda: run(image)


def _cut_onnx(file: Path, output: Path) -> None:
    import onnx

    model = onnx.load(file)
    convolutions = [n for n in model.graph.node if n.name.startswith(PYRAMID) and n.op_type == "Conv"]
    maps = list(dict.fromkeys(node.input[0] for node in convolutions))
    nodes = needed_for(maps, [(node, node.input, node.output) for node in model.graph.node])
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in maps)
    onnx.save(model, output)


def _cut_openvino(file: Path, output: Path) -> None:
    import openvino
    from openvino import opset13

    model = openvino.Core().read_model(file)
    readers = [n for n in model.get_ordered_ops()
               if n.get_friendly_name().startswith(PYRAMID) and n.get_type_name() == "Convolution"]  # fmt: skip
    results = [opset13.result(node.input_value(0)) for node in readers]
    openvino.save_model(openvino.Model(results, model.get_parameters()), output, compress_to_fp16=False)


def _cut_tflite(file: Path, output: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    from runtimes.formats.tflite_format import strip_notes

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(strip_notes(file.read_bytes())))
    signature = next(s for s in model.signatureDefs if s.signatureKey == b"detect")
    graph = model.subgraphs[signature.subgraphIndex]
    readers = [op for op in graph.operators if _reads_backbone(graph, op)]
    maps = list(dict.fromkeys(int(op.inputs[0]) for op in readers))
    graph.operators = needed_for(maps, [(op, op.inputs, op.outputs) for op in graph.operators])
    graph.outputs = maps
    model.subgraphs, model.signatureDefs = [graph], []
    output.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _reads_backbone(graph: Any, operator: Any) -> bool:
    """Whether an operator is a 1x1 convolution of the pyramid."""
    is_pyramid = b"_fpn/" in graph.tensors[operator.outputs[0]].name and len(operator.inputs) == 3
    return is_pyramid and list(graph.tensors[operator.inputs[1]].shape)[1:3] == [1, 1]


def needed_for(results: Sequence[Any], operators: Sequence[tuple[Any, Sequence[Any], Sequence[Any]]]) -> list[Any]:
    """The operators that these results depend on, sorted, each with its inputs and outputs."""
    wanted, needed = set(results), []
    for operator, inputs, outputs in reversed(operators):
        if wanted & set(outputs):
            wanted |= set(inputs)
            needed.insert(0, operator)
    return needed


_CUTTERS = {"onnx": _cut_onnx, "openvino": _cut_openvino, "tflite": _cut_tflite}

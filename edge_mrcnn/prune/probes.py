"""Single layers as models of a runtime, for measuring their time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

ROUNDS = 5
"""Number of turns of each probe, so that other load on the machine affects only one turn."""
TURN_S = 0.01
"""Minimum duration of a turn, in seconds."""

Run = Callable[[], object]


@dataclass(frozen=True)
class LayerProbe:
    """A layer at one size; padded so that its output has the size of its input, divided by the stride."""

    kind: str
    """As `Layer.kind`."""
    inputs: int
    outputs: int
    kernel: int
    stride: int
    rows: int
    height: int
    width: int


def time_probes(probes: Iterable[LayerProbe], runtime: str, threads: int | None = None) -> dict[LayerProbe, float]:
    """The shortest run of each probe in milliseconds, because other load only adds to it.

    Args:
        probes: Layers to run, in turn.
        runtime: "onnx", "openvino" or "tflite".
        threads: CPU threads; the runtime's own choice if None.
    """
    open_probe = OPENERS[runtime]
    runs = {probe: open_probe(probe, threads) for probe in probes}
    for run in runs.values():
        run()  # warm-up
    shortest_ms = dict.fromkeys(runs, math.inf)
    for _ in range(ROUNDS):
        for probe, run in runs.items():
            shortest_ms[probe] = min(shortest_ms[probe], 1000 * _shortest(run))
    return shortest_ms


def _shortest(run: Run) -> float:
    """Seconds of the shortest run within a turn."""
    times: list[float] = []
    while sum(times) < TURN_S:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _open_onnx(probe: LayerProbe, threads: int | None) -> Run:
    from runtimes.onnx_backend import make_session

    session = make_session(to_onnx(probe), threads)
    x = np.zeros(session.get_inputs()[0].shape, np.float32)
    return partial(session.run, None, {"x": x})


def _open_openvino(probe: LayerProbe, threads: int | None) -> Run:
    import openvino

    from runtimes.openvino_backend import compile_plainly

    model = compile_plainly(to_onnx(probe), threads)
    request = model.create_infer_request()
    blank = np.zeros(tuple(model.input().shape), np.float32)
    request.set_input_tensor(openvino.Tensor(blank))
    return partial(request.infer)


def _open_tflite(probe: LayerProbe, threads: int | None) -> Run:
    from runtimes.quiet import quiet_stderr
    from runtimes.tflite_backend import make_interpreter

    with quiet_stderr():
        interpreter = make_interpreter(to_tflite(probe), threads)
        interpreter.allocate_tensors()
    return partial(interpreter.invoke)


OPENERS: dict[str, Callable[[LayerProbe, int | None], Run]] = {
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "tflite": _open_tflite,
}
"""Format -> function that opens a layer in its runtime, with the settings of `runtimes`."""


def to_onnx(probe: LayerProbe) -> bytes:
    """A model with one node."""
    from onnx import TensorProto, helper, numpy_helper

    shape, weight_shape = _onnx_shapes(probe)
    constants = []
    for name, array in _weights(weight_shape, probe.outputs).items():
        constants.append(numpy_helper.from_array(array, name))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([_onnx_node(probe)], "probe", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def _onnx_node(probe: LayerProbe) -> Any:
    from onnx import helper

    operands = ["x", "w", "b"]
    if probe.kind == "linear":
        return helper.make_node("Gemm", operands, ["y"], transB=1)
    frame: dict[str, Any] = {
        "strides": [probe.stride, probe.stride],
        "kernel_shape": [probe.kernel, probe.kernel],
    }
    if probe.kind == "deconv":
        return helper.make_node("ConvTranspose", operands, ["y"], **frame)
    pads = [probe.kernel // 2] * 4
    groups = probe.outputs if probe.kind == "depthwise" else 1
    return helper.make_node("Conv", operands, ["y"], pads=pads, group=groups, **frame)


def _onnx_shapes(probe: LayerProbe) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of input and weight, channels first."""
    if probe.kind == "linear":
        return (probe.rows, probe.inputs), (probe.outputs, probe.inputs)
    shape = (probe.rows, probe.inputs, probe.height, probe.width)
    if probe.kind == "deconv":
        channels = (probe.inputs, probe.outputs)
    elif probe.kind == "depthwise":
        channels = (probe.outputs, 1)
    else:
        channels = (probe.outputs, probe.inputs)
    return shape, (*channels, probe.kernel, probe.kernel)


def to_tflite(probe: LayerProbe) -> bytes:
    """A model with one operator."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    kind, order = _TFLITE[probe.kind]
    shapes = _tflite_shapes(probe)
    constants = _weights(shapes["w"], probe.outputs)
    constants["size"] = np.array(shapes["y"], np.int32)
    names = ["x", "y", *(name for name in order if name != "x")]

    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    model.subgraphs = [graph]
    graph.inputs = np.array([0], np.int32)
    graph.outputs = np.array([1], np.int32)
    graph.tensors = []
    for name in names:
        graph.tensors.append(_tflite_tensor(name, shapes.get(name), constants.get(name), model.buffers))

    operator = schema.OperatorT()
    operator.opcodeIndex = 0
    operator.inputs = np.array([names.index(name) for name in order], np.int32)
    operator.outputs = graph.outputs
    operator.builtinOptionsType, operator.builtinOptions = _tflite_options(kind, probe.stride)
    graph.operators = [operator]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 3 if kind == "TRANSPOSE_CONV" else 1  # the first version of this operator that has a bias
    model.operatorCodes = [code]

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


_TFLITE = {
    "conv": ("CONV_2D", ("x", "w", "b")),
    "depthwise": ("DEPTHWISE_CONV_2D", ("x", "w", "b")),
    "deconv": ("TRANSPOSE_CONV", ("size", "w", "x", "b")),
    "linear": ("FULLY_CONNECTED", ("x", "w", "b")),
}
"""Kind -> operator and its operands in order."""


def _tflite_shapes(probe: LayerProbe) -> dict[str, tuple[int, ...]]:
    """Shapes of input, output and weights, channels last."""
    if probe.kind == "linear":
        return {
            "x": (probe.rows, probe.inputs),
            "y": (probe.rows, probe.outputs),
            "w": (probe.outputs, probe.inputs),
        }
    if probe.kind == "deconv":
        height, width = probe.height * probe.stride, probe.width * probe.stride
    else:
        height, width = math.ceil(probe.height / probe.stride), math.ceil(probe.width / probe.stride)
    if probe.kind == "depthwise":
        weight = (1, probe.kernel, probe.kernel, probe.outputs)
    else:
        weight = (probe.outputs, probe.kernel, probe.kernel, probe.inputs)
    return {
        "x": (probe.rows, probe.height, probe.width, probe.inputs),
        "y": (probe.rows, height, width, probe.outputs),
        "w": weight,
    }


def _tflite_tensor(name: str, shape: tuple[int, ...] | None, constant: np.ndarray | None, buffers: list[Any]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name = name.encode()
    tensor.type = schema.TensorType.INT32 if name == "size" else schema.TensorType.FLOAT32
    if constant is None:
        tensor.buffer = 0  # by convention of TFLite, buffer 0 is empty
        tensor.shape = np.array(shape, np.int32)
        return tensor
    tensor.buffer = len(buffers)
    tensor.shape = np.array(constant.shape, np.int32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(constant.tobytes(), np.uint8)
    buffers.append(buffer)
    return tensor


def _tflite_options(kind: str, stride: int) -> tuple[int, Any]:
    """Number and record of an operator's options, padding "same"."""
    from ai_edge_litert import schema_py_generated as schema

    words = [word.title() for word in kind.split("_")]
    name = "".join(words) + "Options"
    options = getattr(schema, f"{name}T")()
    if kind != "FULLY_CONNECTED":
        options.strideH = options.strideW = stride
        options.padding = schema.Padding.SAME
    if kind == "DEPTHWISE_CONV_2D":
        options.depthMultiplier = 1
    return getattr(schema.BuiltinOptions, name), options


def _weights(shape: tuple[int, ...], outputs: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(shape, np.float32)
    bias = np.zeros(outputs, np.float32)
    return {"w": weight, "b": bias}

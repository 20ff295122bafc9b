"""Single layers as models of a runtime, to see how long it takes for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

ROUNDS = 5
"""How often each probe has its turn, so that a busy moment of the machine spoils one turn only."""
TURN_S = 0.01
"""Time that a turn takes at least."""

Run = Callable[[], object]


@dataclass(frozen=True)
class LayerProbe:
    """A layer at one size; padded so that its output is as large as its input, divided by the stride."""

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
    """The shortest run of each probe in milliseconds: whatever else the machine does only adds to it.

    Args:
        probes: What to run, in turn.
        runtime: "onnx", "openvino" or "tflite".
        threads: CPU threads; the runtime's own choice if None.
    """
    runs = {probe: OPENERS[runtime](probe, threads) for probe in probes}
    for run in runs.values():
        run()
    turns = [{probe: _shortest(run) for probe, run in runs.items()} for _ in range(ROUNDS)]
    return {probe: 1000 * min(turn[probe] for turn in turns) for probe in runs}


def _shortest(run: Run) -> float:
    """Seconds of the shortest run within a turn."""
    times: list[float] = []
    while sum(times) < TURN_S:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _open_onnx(probe: LayerProbe, threads: int | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(to_onnx(probe), options, providers=["CPUExecutionProvider"])
    x = np.zeros(session.get_inputs()[0].shape, np.float32)
    return partial(session.run, None, {"x": x})


def _open_openvino(probe: LayerProbe, threads: int | None) -> Run:
    import openvino

    from runtimes.openvino_backend import shared_core

    core = shared_core()
    model = core.read_model(to_onnx(probe))
    hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    hints |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.zeros(tuple(model.input().shape), np.float32)))
    return partial(request.infer)


def _open_tflite(probe: LayerProbe, threads: int | None) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    from runtimes.quiet import quiet_stderr

    with quiet_stderr():
        interpreter = Interpreter(model_content=to_tflite(probe), num_threads=threads)
        interpreter.allocate_tensors()
    return partial(interpreter.invoke)


OPENERS: dict[str, Callable[[LayerProbe, int | None], Run]] = {
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "tflite": _open_tflite,
}


def to_onnx(probe: LayerProbe) -> bytes:
    """A model of one node."""
    from onnx import TensorProto, helper, numpy_helper

    p = probe
    weight: tuple[int, ...] = (p.outputs, p.inputs, p.kernel, p.kernel)
    groups = 1
    shape: tuple[int, ...] = (p.rows, p.inputs, p.height, p.width)
    frame: dict[str, Any] = {"strides": [p.stride] * 2, "kernel_shape": [p.kernel] * 2}
    if p.kind == "linear":
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
        weight, shape = weight[:2], shape[:2]
    elif p.kind == "deconv":
        node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **frame)
        weight = (p.inputs, p.outputs, p.kernel, p.kernel)
    else:
        if p.kind == "depthwise":
            weight, groups = (p.outputs, 1, p.kernel, p.kernel), p.outputs
        node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[p.kernel // 2] * 4, group=groups, **frame)
    constants = [numpy_helper.from_array(array, name) for name, array in _weights(weight, p.outputs).items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", shape), ("y", None))]
    graph = helper.make_graph([node], "probe", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def to_tflite(probe: LayerProbe) -> bytes:
    """A model of one operator."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    kind, order = _TFLITE[probe.kind]
    shapes = _tflite_shapes(probe)
    constants = {**_weights(shapes["w"], probe.outputs), "size": np.array(shapes["y"], np.int32)}
    names = ["x", "y", *(name for name in order if name != "x")]
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT()], [graph]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([1], np.int32)
    graph.tensors = [_tflite_tensor(name, shapes.get(name), constants.get(name), model.buffers) for name in names]
    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    operator.opcodeIndex, operator.outputs = 0, graph.outputs
    operator.inputs = np.array([names.index(name) for name in order], np.int32)
    operator.builtinOptionsType, operator.builtinOptions = _tflite_options(kind, probe.stride)
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 3 if kind == "TRANSPOSE_CONV" else 1  # the first with a bias
    graph.operators, model.operatorCodes = [operator], [code]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


_TFLITE = {
    "conv": ("CONV_2D", ("x", "w", "b")),
    "depthwise": ("DEPTHWISE_CONV_2D", ("x", "w", "b")),
    "deconv": ("TRANSPOSE_CONV", ("size", "w", "x", "b")),
    "linear": ("FULLY_CONNECTED", ("x", "w", "b")),
}
"""Kind to operator and its operands in their order."""


def _tflite_shapes(p: LayerProbe) -> dict[str, tuple[int, ...]]:
    """Of input, output and weights, channels last."""
    if p.kind == "linear":
        return {"x": (p.rows, p.inputs), "y": (p.rows, p.outputs), "w": (p.outputs, p.inputs)}
    grow = p.stride if p.kind == "deconv" else 1
    shrink = 1 if p.kind == "deconv" else p.stride
    height, width = (-(-side * grow // shrink) for side in (p.height, p.width))
    is_depthwise = p.kind == "depthwise"
    weight = (1, p.kernel, p.kernel, p.outputs) if is_depthwise else (p.outputs, p.kernel, p.kernel, p.inputs)
    return {"x": (p.rows, p.height, p.width, p.inputs), "y": (p.rows, height, width, p.outputs), "w": weight}


def _tflite_tensor(name: str, shape: tuple[int, ...] | None, constant: np.ndarray | None, buffers: list[Any]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    tensor = schema.TensorT()
    tensor.name, tensor.buffer = name.encode(), 0
    tensor.type = schema.TensorType.INT32 if name == "size" else schema.TensorType.FLOAT32
    tensor.shape = np.array(shape if constant is None else constant.shape, np.int32)
    if constant is not None:
        tensor.buffer = len(buffers)
        buffers.append(schema.BufferT())
        buffers[-1].data = np.frombuffer(constant.tobytes(), np.uint8)
    return tensor


def _tflite_options(kind: str, stride: int) -> tuple[int, Any]:
    """Number and record of an operator's options, padding "same"."""
    from ai_edge_litert import schema_py_generated as schema

    name = "".join(word.title() for word in kind.split("_")) + "Options"
    options = getattr(schema, f"{name}T")()
    if kind != "FULLY_CONNECTED":
        options.strideH = options.strideW = stride
        options.padding = schema.Padding.SAME
    if kind == "DEPTHWISE_CONV_2D":
        options.depthMultiplier = 1
    return getattr(schema.BuiltinOptions, name), options


def _weights(shape: tuple[int, ...], outputs: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"w": rng.standard_normal(shape, np.float32), "b": np.zeros(outputs, np.float32)}

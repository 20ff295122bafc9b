"""Models of other tools: opened by the description of their inputs, and run with an image.

Only the network can be timed: the other tool's pre- and post-processing is not in the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtimes.base import refusing
from runtimes.errors import UsageError
from runtimes.formats.jobs import find_job
from runtimes.model_file import ModelFile
from runtimes.preprocess import letterbox_image
from runtimes.quiet import quiet_stderr

Array = NDArray[Any]
GREY = (114, 114, 114)
ONNX_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


class Port(NamedTuple):
    """An input of a network."""

    name: str
    shape: tuple[int | None, ...]
    """None for a free size."""
    dtype: str
    """Type in numpy's notation."""


class Net(ABC):
    """An opened model of another tool."""

    ports: list[Port]

    @abstractmethod
    def run(self, tensors: list[Array]) -> None:
        """Run once on one tensor per input and fetch all outputs."""


class OnnxNet(Net):
    """An ONNX file of another tool."""

    def __init__(self, path: Path, threads: int) -> None:
        from runtimes.onnx_backend import make_session

        self._session = make_session(path, threads)
        self.ports = []
        for given in self._session.get_inputs():
            shape = tuple(side if isinstance(side, int) else None for side in given.shape)
            self.ports.append(Port(given.name, shape, ONNX_TYPES[given.type]))

    def run(self, tensors: list[Array]) -> None:
        names = [port.name for port in self.ports]
        self._session.run(None, dict(zip(names, tensors, strict=True)))


class OpenVinoNet(Net):
    """An OpenVINO IR of another tool, with float layers in f32 as in ours."""

    def __init__(self, path: Path, threads: int) -> None:
        from runtimes.openvino_backend import compile_plainly

        model = compile_plainly(path, threads)
        self._request = model.create_infer_request()
        self.ports = []
        for index, given in enumerate(model.inputs):
            shape = tuple(side.get_length() if side.is_static else None for side in given.get_partial_shape())
            dtype = np.dtype(given.get_element_type().to_dtype()).name
            self.ports.append(Port(str(index), shape, dtype))

    def run(self, tensors: list[Array]) -> None:
        self._request.infer(dict(enumerate(tensors)), share_inputs=True, share_outputs=True)


class TfliteNet(Net):
    """A TFLite file of another tool, its main subgraph."""

    def __init__(self, path: Path, threads: int) -> None:
        from runtimes.formats.tflite_format import strip_notes
        from runtimes.tflite_backend import make_interpreter

        with quiet_stderr():
            self._interpreter = make_interpreter(strip_notes(path.read_bytes()), threads)
            self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        self._outputs = [output["index"] for output in self._interpreter.get_output_details()]
        self.ports = []
        for given in self._inputs:
            shape = tuple(int(side) for side in given["shape"])
            self.ports.append(Port(given["name"], shape, np.dtype(given["dtype"]).name))

    def run(self, tensors: list[Array]) -> None:
        for port, tensor in zip(self._inputs, tensors, strict=True):
            self._interpreter.set_tensor(port["index"], tensor)
        self._interpreter.invoke()
        for index in self._outputs:
            self._interpreter.get_tensor(index)


NETS = {
    "onnx": "edge_mrcnn.benchmark.foreign:OnnxNet",
    "openvino": "edge_mrcnn.benchmark.foreign:OpenVinoNet",
    "tflite": "edge_mrcnn.benchmark.foreign:TfliteNet",
}
"""Format -> function that opens such a file, from path and threads."""


def open_net(path: Path, threads: int) -> Net:
    """Open another tool's model file.

    Raises:
        UnknownFormatError: If no runtime opens files of this suffix.
        MissingExtraError: If the SDK is not installed.
        ModelFileError: If the SDK cannot open it.
    """
    file = ModelFile(path)
    kind = find_job(NETS, file.format.name, "timing models of other tools", name=file)
    file.import_backend()  # names the package to install if the SDK is missing
    with refusing(file, "the SDK cannot open it"):
        net: Net = kind(file.path, threads)
        return net


def fill_ports(ports: Sequence[Port], picture: Array, size_hw: tuple[int, int]) -> list[Array]:
    """One tensor per input: the letterboxed image for image inputs, zeros for others.

    Args:
        ports: The network's inputs.
        picture: (h, w, 3) uint8 RGB.
        size_hw: Height and width for inputs with a free size, in pixels.

    Raises:
        UsageError: If no input takes an image.
    """
    if all(_channel_axis(port.shape) is None for port in ports):
        shapes = ", ".join(str(port.shape) for port in ports)
        raise UsageError(f"expected a model with a three-channel input, got inputs of shape {shapes}")
    return [_fill_port(port, picture, size_hw) for port in ports]


def _fill_port(port: Port, picture: Array, size_hw: tuple[int, int]) -> Array:
    axis = _channel_axis(port.shape)
    if axis is None:
        shape = [side or 1 for side in port.shape]
        return np.zeros(shape, port.dtype)
    height_axis, width_axis = _size_axes(port.shape, axis)
    free_height, free_width = size_hw
    height = port.shape[height_axis] or free_height
    width = port.shape[width_axis] or free_width
    pixels, _ = letterbox_image(picture, (height, width), GREY)
    is_channels_last = axis == len(port.shape) - 1
    x = pixels if is_channels_last else pixels.transpose(2, 0, 1)
    if len(port.shape) == 4:
        batch = port.shape[0] or 1
        x = np.broadcast_to(x, (batch, *x.shape))
    return np.ascontiguousarray(_scale(x, port.dtype))


def _channel_axis(shape: tuple[int | None, ...]) -> int | None:
    """Axis of the colour channels of an image tensor; None for a tensor of another kind."""
    if len(shape) not in (3, 4):
        return None
    for axis in (len(shape) - 3, len(shape) - 1):
        if shape[axis] == 3:
            return axis
    return None


def _size_axes(shape: tuple[int | None, ...], channel_axis: int) -> tuple[int, int]:
    """The axes of height and width."""
    start = len(shape) - 3
    return (start, start + 1) if channel_axis == len(shape) - 1 else (start + 1, start + 2)


def _scale(x: Array, dtype: str) -> Array:
    """uint8 pixels converted to a type: floats in [0, 1], int8 centred."""
    if dtype.startswith("float"):
        x = x / np.array(255, dtype)
    elif dtype == "int8":
        x = x.astype(np.int16) - 128
    return x.astype(dtype)

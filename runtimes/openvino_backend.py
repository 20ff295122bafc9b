"""The OpenVINO backend; `runtimes.formats.openvino_format` describes its files."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runtimes.base import Array, BatchRuntime, Runtime, check_graph, output_names, refusing
from runtimes.board import read_board
from runtimes.errors import UsageError
from runtimes.formats.openvino_format import OpenVinoOptions
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile

CONVERTER = "openvino.tools.ovc"
"""OpenVINO's model converter: 200 modules, two thirds of the time and memory of the import."""


def _import_openvino() -> Any:
    """OpenVINO without its converter, which is imported when `openvino.convert_model` is first used."""
    if "openvino" in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[CONVERTER] = None  # type: ignore[assignment]  # so that its import fails, which OpenVINO allows for
    try:
        module = importlib.import_module("openvino")
    finally:
        del sys.modules[CONVERTER]
    module.__getattr__ = _find_converter  # type: ignore[method-assign]
    return module


def _find_converter(name: str) -> Any:
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return importlib.import_module(CONVERTER).convert_model


openvino = _import_openvino()

COMPLAINT = "OpenVINO cannot open it"
PRECISIONS = {"f32": "f32", "f16": "f16", "bf16": "bf16", "auto": None}
"""Value of `precision` -> OpenVINO's INFERENCE_PRECISION_HINT; None leaves the choice to the device."""


class OpenVinoRuntime(BatchRuntime):
    """A compiled OpenVINO IR."""

    def __init__(self, card: ModelCard, compile_for: Callable[[int], Any], compiled: Any, streams: int) -> None:
        """Make one.

        Args:
            card: Card of the model.
            compile_for: Function from a number of streams to a model compiled for it.
            compiled: The compiled model.
            streams: Number of frames in flight.
        """
        super().__init__(card)
        self._compile_for = compile_for
        self._streams = streams
        self._compiled: Any = None
        self._request: Any = None
        self._ports: list[Any] = []
        self._take(compiled)

    def run_graph(self, x: Array) -> Sequence[Array]:
        outputs = self._request.infer([x], share_inputs=True, share_outputs=True)
        return [outputs[port] for port in self._ports]

    def describe(self) -> dict[str, str]:
        """The precision is that of the float layers: OpenVINO may choose bf16 or fp16 if none is set."""
        device = {"device": ", ".join(self._compiled.get_property("EXECUTION_DEVICES"))}
        if "INFERENCE_PRECISION_HINT" not in self._compiled.get_property("SUPPORTED_PROPERTIES"):  # of AUTO and MULTI
            return device
        return {**device, "float layers": self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()}

    def split(self, count: int) -> list[Runtime]:
        """See `Runtime.split`: requests to one compiled model, one stream each.

        Separately opened models would share OpenVINO's executor, and wait for each other.
        """
        if count != self._streams:
            self._streams = count
            self._take(self._compile_for(count))
        one = self._compiled
        return [OpenVinoRuntime(self.card, self._compile_for, one, self._streams) for _ in range(count - 1)]

    def close(self) -> None:
        super().close()
        self._request = None
        self._compiled = None
        self._ports = []

    def _take(self, compiled: Any) -> None:
        """Use this compiled model from now on."""
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._ports = [compiled.output(name) for name in output_names(self.card)]


def open_model(file: ModelFile, *, threads: int | None, device: str, options: OpenVinoOptions) -> OpenVinoRuntime:
    """Open an OpenVINO IR.

    Args:
        file: The .xml, with its .bin in the same folder.
        threads: Number of CPU threads; if None, OpenVINO's choice, which is one per core that this process may use.
        device: A device by its public name.
        options: Options of OpenVINO.

    Raises:
        ModelFileError: If a file is damaged or was not made by edge-mrcnn.
        MissingFileError: If the .bin is not beside the .xml.
        UsageError: If there is no such device.
    """
    core = shared_core()
    check_device(core, device)
    card = file.card
    opened = file.state

    def compile_for(streams: int) -> Any:
        file.expect(opened)
        model = core.read_model(str(file.path))
        check_model(model, card, file)
        return core.compile_model(model, device.upper(), make_config(threads, device, options, streams))

    with refusing(file, COMPLAINT):
        return OpenVinoRuntime(card, compile_for, compile_for(options.streams), options.streams)


@functools.cache
def shared_core() -> Any:
    """The only OpenVINO core of this process, which is never freed.

    OpenVINO's CPU plugin gives the thread that loads it another signal stack, and restores the previous one when it is
    unloaded. If two cores are freed in the order of their creation, the second one restores the stack of the first,
    which no longer exists: the next signal that Python handles, such as Ctrl-C, would crash the process (OpenVINO
    2026.4).

    Weights are read, not memory-mapped: a new model copied over the one in use would crash the process (SIGBUS).
    """
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})
    return core


def make_config(threads: int | None, device: str, options: OpenVinoOptions, streams: int = 1) -> dict[str, Any]:
    """Compile options, by OpenVINO's property names."""
    config: dict[str, Any] = {"NUM_STREAMS": streams} if streams > 1 else {"PERFORMANCE_HINT": "LATENCY"}
    if hint := PRECISIONS[options.precision]:
        config["INFERENCE_PRECISION_HINT"] = hint
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    if options.cache_dir:
        config["CACHE_DIR"] = str(options.cache_dir)
    integer = options.integer
    if integer is None:
        integer = device != "cpu" or _can_compute_in_integers()
    if not integer:
        config["LP_TRANSFORMS_MODE"] = False
    return config


def compile_plainly(model: Path | bytes, threads: int | None = None) -> Any:
    """A model compiled for the CPU with our standard settings, so that times are comparable.

    Args:
        model: A file that OpenVINO reads, or its content.
        threads: Number of CPU threads; OpenVINO's choice if None, one per core that this process may use.
    """
    core = shared_core()
    read = core.read_model(model if isinstance(model, bytes) else str(model))
    return core.compile_model(read, "CPU", make_config(threads, "cpu", OpenVinoOptions()))


def check_device(core: Any, device: str) -> None:
    """Raise UsageError if there is no such device; the CPU is not checked, because that would load 23 MB of plugins."""
    if device == "cpu":
        return
    family = device.split(".")[0].split(":")[0]
    available = [name.lower() for name in core.available_devices]
    if family not in {*(name.split(".")[0] for name in available), "auto", "hetero", "multi"}:
        raise UsageError(f"device {device}: not found here; OpenVINO finds {', '.join(available)}")


def check_model(model: Any, card: ModelCard, path: object) -> None:
    """Raise ModelFileError unless the inputs and outputs of the graph match the card."""
    shape = model.input(0).get_partial_shape()
    sizes = tuple(d.get_length() if d.is_static else "?" for d in shape)
    check_graph(path, card, sizes, {name for port in model.outputs for name in port.get_names()})


def _can_compute_in_integers() -> bool:
    """OpenVINO 2026 needs fp16 convolutions around INT8 layers on Arm, and fails or errs on processors without fp16."""
    board = read_board()
    return not board.is_arm or "fp16" in board.features

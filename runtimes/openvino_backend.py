"""OpenVINO. The card is the runtime information ["edge_mrcnn", "card"] of the model (`<rt_info>` in the .xml).

Golden tensors lie beside it as ["edge_mrcnn", "golden"], in base64.
"""

from __future__ import annotations

import base64
import functools
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from runtimes.base import Array, BatchRuntime, check_graph, output_names, refusing
from runtimes.board import read_board
from runtimes.errors import UsageError
from runtimes.model_card import CARD_KEY, ModelCard, missing_card
from runtimes.seal import check_seal, write_seal

CONVERTER = "openvino.tools.ovc"
"""What converts models of other tools: 200 modules that are two thirds of the time and of the memory of the import."""


def _import_openvino() -> Any:
    """OpenVINO, whose converter stays away until somebody asks for `openvino.convert_model`."""
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
CARD_PATH = [CARD_KEY, "card"]
"""Where the card lies in the model's runtime information."""
GOLDEN_PATH = [CARD_KEY, "golden"]
"""Where the golden tensors lie."""
PRECISIONS = {"f32": "f32", "f16": "f16", "bf16": "bf16", "auto": None}
"""Value of `precision` -> OpenVINO's INFERENCE_PRECISION_HINT; None leaves the choice to the device."""


class OpenVinoRuntime(BatchRuntime):
    """An OpenVINO IR, compiled."""

    def __init__(self, card: ModelCard, compiled: Any) -> None:
        super().__init__(card)
        self._compiled: Any = compiled
        self._request: Any = compiled.create_infer_request()
        self._ports = [compiled.output(name) for name in output_names(card)]

    def twin(self) -> OpenVinoRuntime:
        """A runtime for another thread, which shares the compiled model: as many as it was opened with `streams`."""
        return OpenVinoRuntime(self.card, self._compiled)

    def answer(self, x: Array) -> Sequence[Array]:
        outputs = self._request.infer([x], share_inputs=True, share_outputs=True)
        return [outputs[port] for port in self._ports]

    def describe(self) -> dict[str, str]:
        """The precision is what is left after quantized layers: OpenVINO may run it in bf16 or fp16 unless told."""
        device = {"device": ", ".join(self._compiled.get_property("EXECUTION_DEVICES"))}
        if "INFERENCE_PRECISION_HINT" not in self._compiled.get_property("SUPPORTED_PROPERTIES"):  # of AUTO and MULTI
            return device
        return {**device, "float layers": self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()}

    def close(self) -> None:
        self._request = None
        self._compiled = None
        self._ports = []


def open_model(
    path: str | Path,
    *,
    threads: int | None = None,
    device: str = "CPU",
    precision: str = "f32",
    cache_dir: str | Path | None = None,
    integer: bool | None = None,
    streams: int = 1,
) -> OpenVinoRuntime:
    """Open an OpenVINO IR.

    Args:
        path: The .xml; its .bin lies beside it.
        threads: CPU threads; OpenVINO's own choice if None: the cores that this process may use.
        device: OpenVINO's name of the device, such as "CPU" or "GPU".
        precision: Of float layers: "f32" computes what the report measured; "auto" lets the device choose, which is
            bf16 on many x86 and fp16 on Arm; "f16" and "bf16" ask for one.
        cache_dir: Folder for compiled models, which makes the next start faster; none by default.
        integer: Whether quantized layers compute in integers. By default they do where OpenVINO can: on Arm cores
            without half-precision arithmetic (Raspberry Pi 4, Jetson Nano) they run in float.
        streams: Frames in flight at once, by this runtime and its twins; they share the threads. Models that are opened
            one by one share OpenVINO's executor instead, and take turns.

    Raises:
        ModelFileError: If a file is damaged or was not made by edge-mrcnn.
        MissingFileError: If the .bin is not beside the .xml.
        UsageError: If the device or precision is unknown, or there is no stream.
    """
    config = _config(threads, precision, cache_dir, streams)
    if integer is None:
        integer = device != "CPU" or _can_compute_in_integers()
    if not integer:
        config["LP_TRANSFORMS_MODE"] = False
    core = shared_core()
    _check_device(core, device)
    with refusing(path, COMPLAINT):
        model = _read_model(core, path)
        card = _card_of(model, path)
        _check_model(model, card, path)
        return OpenVinoRuntime(card, core.compile_model(model, device, config))


@functools.cache
def shared_core() -> Any:
    """The one core of this process, which lasts as long as it does.

    OpenVINO's CPU plugin gives the thread that loads it another stack for signals, and puts back the former one when
    it is unloaded. Of two cores that go in the order in which they came, the second puts back the stack of the first,
    which is gone: the next signal that Python handles, Ctrl-C for one, would end the process (OpenVINO 2026.4).
    """
    return openvino.Core()


def read_card(path: str | Path) -> ModelCard:
    """The card of an OpenVINO IR.

    Raises:
        ModelFileError: If a file is damaged or was not made by edge-mrcnn.
        MissingFileError: If the .bin is not beside the .xml.
    """
    with refusing(path, COMPLAINT):
        return _card_of(_read_model(shared_core(), path), path)


def read_golden(path: str | Path) -> bytes | None:
    """The golden tensors in an OpenVINO IR, None where it has none; raises as `read_card` does."""
    with refusing(path, COMPLAINT):
        model = _read_model(shared_core(), path)
        if not model.has_rt_info(GOLDEN_PATH):
            return None
        return base64.b64decode(model.get_rt_info(GOLDEN_PATH).astype(str), validate=True)


def write_golden(path: str | Path, data: bytes | None) -> None:
    """Put golden tensors into an OpenVINO IR, in place of those that it has; None takes them out.

    Only the .xml changes.
    """
    with refusing(path, COMPLAINT):
        tree = ElementTree.parse(path)
        parent = tree.find(f"rt_info/{CARD_KEY}")
        if parent is None:
            raise missing_card(path)
        for entry in parent.findall(GOLDEN_PATH[-1]):
            parent.remove(entry)
        if data is not None:
            ElementTree.SubElement(parent, GOLDEN_PATH[-1], value=base64.b64encode(data).decode())
        tree.write(path, encoding="utf-8", xml_declaration=True)
    write_seal(path)


def _config(threads: int | None, precision: str, cache_dir: str | Path | None, streams: int) -> dict[str, Any]:
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if streams < 1:
        raise UsageError(f"streams {streams}: expected at least 1")
    config: dict[str, Any] = {"NUM_STREAMS": streams} if streams > 1 else {"PERFORMANCE_HINT": "LATENCY"}
    if hint := PRECISIONS[precision]:
        config["INFERENCE_PRECISION_HINT"] = hint
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    if cache_dir:
        config["CACHE_DIR"] = str(cache_dir)
    return config


def _check_device(core: Any, device: str) -> None:
    """Raise UsageError if there is none such; the CPU is taken for granted, since asking loads 23 MB of plugins."""
    if device == "CPU":
        return
    if device.split(".")[0].split(":")[0] not in {*core.available_devices, "AUTO", "HETERO", "MULTI"}:
        raise UsageError(f"device {device}: OpenVINO sees {', '.join(core.available_devices)} here")


def _can_compute_in_integers() -> bool:
    """OpenVINO 2026 asks for fp16 convolutions around INT8 layers on Arm, and refuses or errs where there are none."""
    board = read_board()
    return not board.is_arm or "fp16" in board.features


def _read_model(core: Any, path: str | Path) -> Any:
    check_seal(path)
    return core.read_model(str(path))


def _card_of(model: Any, path: str | Path) -> ModelCard:
    if not model.has_rt_info(CARD_PATH):
        raise missing_card(path)
    return ModelCard.from_json(model.get_rt_info(CARD_PATH).astype(str))


def _check_model(model: Any, card: ModelCard, path: str | Path) -> None:
    shape = model.input(0).get_partial_shape()
    sizes = tuple(d.get_length() if d.is_static else "?" for d in shape)
    check_graph(path, card, sizes, {name for port in model.outputs for name in port.get_names()})

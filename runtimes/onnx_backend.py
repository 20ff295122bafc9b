"""ONNX Runtime. The card is the metadata property "edge_mrcnn" of the model, golden tensors are another in base64."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from runtimes.base import Array, BatchRuntime, check_graph, output_names, refusing
from runtimes.board import choose_threads
from runtimes.errors import MissingExtraError, UsageError
from runtimes.model_card import CARD_KEY, GOLDEN_KEY, ModelCard, missing_card
from runtimes.seal import SEAL_KEY, check_seal, write_seal

COMPLAINT = "ONNX Runtime cannot open it"


Provider = tuple[str, dict[str, str]]
"""Name and options of an execution provider."""

DEVICES = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""Value of `device` -> execution providers in order of preference: what one cannot run, the next one does."""


class OnnxRuntime(BatchRuntime):
    """An ONNX file, opened."""

    def __init__(self, card: ModelCard, session: Any) -> None:
        super().__init__(card)
        self._session: Any = session
        self._input = session.get_inputs()[0].name

    def answer(self, x: Array) -> Sequence[Array]:
        outputs: Sequence[Array] = self._session.run(output_names(self.card), {self._input: x})
        return outputs

    def describe(self) -> dict[str, str]:
        return {"provider": self._session.get_providers()[0].removesuffix("ExecutionProvider")}

    def close(self) -> None:
        self._session = None


def open_model(
    path: str | Path,
    *,
    threads: int | None = None,
    spinning: bool = False,
    device: str = "cpu",
    providers: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
) -> OnnxRuntime:
    """Open an ONNX file.

    Args:
        path: The file.
        threads: CPU threads; as many as the cores that this process may use if None.
        spinning: Whether threads wait for the next operator in a loop. That answers sooner on a machine with nothing
            else to do; on two busy processors it doubled the processor time of a frame and its latency rose by 60 %.
        device: "cpu", "cuda" or "tensorrt"; the latter two need the package onnxruntime-gpu.
        providers: Execution providers in order of preference, in place of the device's.
        cache_dir: Folder for TensorRT's engines, which take minutes to build; none by default.

    Raises:
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
        UsageError: If the device is unknown or a provider is not in this build of ONNX Runtime.
    """
    chosen = choose_providers(device, providers, cache_dir)
    with refusing(path, COMPLAINT):
        session = _open_session(path, _session_options(threads, spinning), chosen)
        card = _card_of(session, path)
        check_graph(path, card, session.get_inputs()[0].shape, {output.name for output in session.get_outputs()})
        return OnnxRuntime(card, session)


def _session_options(threads: int | None, spinning: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # a warning per start about devices of the board helps nobody
    # Its own choice are the cores of the whole machine, to which it pins its threads, whatever else runs there.
    options.intra_op_num_threads = choose_threads(threads)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return options


def read_card(path: str | Path) -> ModelCard:
    """The card of an ONNX file.

    Raises:
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
    """
    with refusing(path, COMPLAINT):
        return _card_of(_open_plainly(path), path)


def read_golden(path: str | Path) -> bytes | None:
    """The golden tensors in an ONNX file, None where it has none; raises as `read_card` does."""
    with refusing(path, COMPLAINT):
        text = _open_plainly(path).get_modelmeta().custom_metadata_map.get(GOLDEN_KEY)
        return None if text is None else base64.b64decode(text, validate=True)


def write_golden(path: str | Path, data: bytes | None) -> None:
    """Put golden tensors into an ONNX file, in place of those that it has; None takes them out.

    Raises:
        MissingExtraError: If onnx, which a device does without, is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path}: writing needs onnx: pip install 'edge-mrcnn[export]'") from error
    model = onnx.load(path)
    properties = {p.key: p.value for p in model.metadata_props if p.key not in (SEAL_KEY, GOLDEN_KEY)}
    if data is not None:
        properties[GOLDEN_KEY] = base64.b64encode(data).decode()
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)
    write_seal(path)


def _open_plainly(path: str | Path) -> Any:
    """A session whose graph is left as it is: quick to open."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _open_session(path, options, ("CPUExecutionProvider",))


def choose_providers(device: str, names: Sequence[str] | None, cache_dir: str | Path | None) -> list[Provider]:
    """Each provider with its options.

    Raises:
        UsageError: If the device is unknown or a provider is not in this build of ONNX Runtime.
    """
    if device.lower() not in DEVICES:
        raise UsageError(f"device {device!r}: ONNX Runtime takes one of {', '.join(DEVICES)}")
    names = DEVICES[device.lower()] if names is None else names
    available = onnxruntime.get_available_providers()
    if unknown := set(names) - set(available):
        raise UsageError(
            f"{', '.join(sorted(unknown))}: not in this onnxruntime, which has {', '.join(available)}; "
            "for NVIDIA's GPUs install onnxruntime-gpu in its place"
        )
    cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache_dir)} if cache_dir else {}
    return [(name, cache if name.startswith("Tensorrt") else {}) for name in names]


def _open_session(path: str | Path, options: Any, providers: Sequence[str | Provider]) -> Any:
    check_seal(path)
    # Its fallback prints to stdout and tries the same again.
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)


def _card_of(session: Any, path: str | Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        raise missing_card(path)
    return ModelCard.from_json(text)

"""ONNX Runtime. The card is the metadata property "edge_mrcnn" of the model, golden tensors are another in base64."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from runtimes.base import Array, RawOutputs, Runtime, check_graph, refusing
from runtimes.errors import MissingExtraError, UsageError
from runtimes.model_card import CARD_KEY, GOLDEN_KEY, ModelCard, missing_card

COMPLAINT = "ONNX Runtime cannot open it"


class OnnxRuntime(Runtime):
    """An ONNX file, opened."""

    def __init__(self, card: ModelCard, session: Any) -> None:
        super().__init__(card)
        self._session: Any = session
        self._input = session.get_inputs()[0].name

    def run(self, x: Array) -> RawOutputs:
        return RawOutputs(*self._session.run(RawOutputs._fields, {self._input: x}))

    def describe(self) -> dict[str, str]:
        return {"provider": self._session.get_providers()[0].removesuffix("ExecutionProvider")}

    def close(self) -> None:
        self._session = None


def open_model(
    path: str | Path, *, threads: int | None = None, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> OnnxRuntime:
    """Open an ONNX file.

    Args:
        path: The file.
        threads: CPU threads; ONNX Runtime's own choice if None.
        providers: Execution providers in order of preference.

    Raises:
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
        UsageError: If a provider is not in this build of ONNX Runtime.
    """
    available = onnxruntime.get_available_providers()
    if unknown := set(providers) - set(available):
        raise UsageError(f"{', '.join(sorted(unknown))}: not in this onnxruntime, which has {', '.join(available)}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # a warning per start about devices of the board helps nobody
    if threads:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    with refusing(path, COMPLAINT):
        session = _open_session(path, options, providers)
        card = _card_of(session, path)
        check_graph(path, card, session.get_inputs()[0].shape, {output.name for output in session.get_outputs()})
        return OnnxRuntime(card, session)


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


def write_golden(path: str | Path, data: bytes) -> None:
    """Put golden tensors into an ONNX file, in place of those that it has.

    Raises:
        MissingExtraError: If onnx, which a device does without, is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path}: writing needs onnx: pip install 'edge-mrcnn[export]'") from error
    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**properties, GOLDEN_KEY: base64.b64encode(data).decode()})
    onnx.save(model, path)


def _open_plainly(path: str | Path) -> Any:
    """A session whose graph is left as it is: quick to open."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _open_session(path, options, ("CPUExecutionProvider",))


def _open_session(path: str | Path, options: Any, providers: Sequence[str]) -> Any:
    # Its fallback prints to stdout and tries the same again.
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)


def _card_of(session: Any, path: str | Path) -> ModelCard:
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        raise missing_card(path)
    return ModelCard.from_json(text)

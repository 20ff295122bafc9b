"""The ONNX Runtime backend; `runtimes.formats.onnx_format` describes its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from runtimes.base import Array, BatchRuntime, Runtime, check_graph, output_names, refusing
from runtimes.board import choose_threads
from runtimes.errors import UsageError
from runtimes.formats.onnx_format import PLUGINS, OnnxOptions
from runtimes.home import user_folder
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile
from runtimes.onnx_plugins import find_devices

COMPLAINT = "ONNX Runtime cannot open it"

Provider = tuple[str, dict[str, str]]
"""Name and options of an execution provider."""

DEVICES = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
"""Public name of a device -> execution providers in order of preference; each runs what the ones before it cannot."""


class OnnxRuntime(BatchRuntime):
    """An opened ONNX file."""

    def __init__(self, card: ModelCard, open_session: Callable[[int], Any], threads: int) -> None:
        """Open a session.

        Args:
            card: Card of the model.
            open_session: Function from a number of CPU threads to a session.
            threads: CPU threads.
        """
        super().__init__(card)
        self._open_session = open_session
        self._threads = threads
        self._session: Any = open_session(threads)
        self._input = self._session.get_inputs()[0].name

    def run_graph(self, x: Array) -> Sequence[Array]:
        outputs: Sequence[Array] = self._session.run(output_names(self.card), {self._input: x})
        return outputs

    def describe(self) -> dict[str, str]:
        return {"provider": self._session.get_providers()[0].removesuffix("ExecutionProvider")}

    def split(self, count: int) -> list[Runtime]:
        """See `Runtime.split`: one session each, with a share of the threads."""
        share = max(1, self._threads // count)
        self._session = self._open_session(share)
        return [OnnxRuntime(self.card, self._open_session, share) for _ in range(count - 1)]

    def close(self) -> None:
        super().close()
        self._session = None


def open_model(file: ModelFile, *, threads: int | None, device: str, options: OnnxOptions) -> OnnxRuntime:
    """Open an ONNX file.

    Args:
        file: The file.
        threads: Number of CPU threads; if None, one per core that this process may use.
        device: Key of `DEVICES` (all but "cpu" need the package onnxruntime-gpu), or of `PLUGINS`.
        options: Options of ONNX Runtime.

    Raises:
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
        UsageError: If a provider is not in this build of ONNX Runtime.
    """
    plugin, _, _ = device.partition(":")
    plugged = find_devices(device) if plugin in PLUGINS and options.providers is None else []
    cache_dir = options.cache_dir
    if cache_dir is None and device == "tensorrt":
        cache_dir = engine_folder(file.sha256)
    providers = [] if plugged else choose_providers(device, options.providers, cache_dir)
    card = file.card
    opened = file.state

    def open_session(count: int) -> Any:
        file.expect(opened)
        return make_session(file.path, count, providers, spinning=options.spinning, plugged=plugged)

    with refusing(file, COMPLAINT):
        runtime = OnnxRuntime(card, open_session, choose_threads(threads))
        session = runtime._session
        check_graph(file, card, session.get_inputs()[0].shape, {output.name for output in session.get_outputs()})
        return runtime


def make_session(
    model: Path | bytes,
    threads: int | None = None,
    providers: Sequence[str | Provider] = DEVICES["cpu"],
    *,
    spinning: bool = False,
    plugged: Sequence[Any] = (),
) -> Any:
    """A session with our standard settings, so that times are comparable.

    Args:
        model: An ONNX file or its content.
        threads: Number of CPU threads; if None, one per core that this process may use.
        providers: Execution providers in order of preference.
        spinning: See `OnnxOptions`.
        plugged: Devices of a plug-in, see `find_devices`, in place of providers; the CPU runs what they cannot.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # suppresses a warning about the board's devices at every start
    # Its default is all cores of the machine, with pinned threads, regardless of other processes.
    options.intra_op_num_threads = choose_threads(threads)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    source = model if isinstance(model, bytes) else str(model)
    if plugged:
        options.add_provider_for_devices(list(plugged), {})
        return onnxruntime.InferenceSession(source, options)
    # Its fallback prints to stdout and repeats the same attempt.
    return onnxruntime.InferenceSession(source, options, providers=list(providers), enable_fallback=0)


def choose_providers(
    device: str, names: Sequence[str] | None = None, cache_dir: str | Path | None = None
) -> list[Provider]:
    """Each provider with its options.

    Raises:
        UsageError: If a provider is not in this build of ONNX Runtime.
    """
    names = DEVICES[device] if names is None else names
    available = onnxruntime.get_available_providers()
    if unknown := set(names) - set(available):
        raise UsageError(
            f"{', '.join(sorted(unknown))}: not in this onnxruntime, which has {', '.join(available)}; "
            "for NVIDIA's GPUs install onnxruntime-gpu in its place"
        )
    cache = {}
    if cache_dir:
        folder = str(cache_dir)
        cache = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder}
        # Timings of kernels, for engines that are built again.
        cache |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": folder}
    return [(name, cache if name.startswith("Tensorrt") else {}) for name in names]


def engine_folder(sha256: str) -> Path | None:
    """Folder for TensorRT engines of one model, kept between starts; None if none can be created.

    TensorRT names its engines after the graph, not its weights, and cannot load an engine of another version. So each
    model and each onnxruntime version has a folder of its own. A service has its own folder, which systemd names.

    Args:
        sha256: Of the model file, in hexadecimal.
    """
    named = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    cache = Path(named) if named else user_folder("XDG_CACHE_HOME", ".cache") / "edge-mrcnn"
    folder = cache / "engines" / f"{sha256[:16]}-{onnxruntime.__version__}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # on a read-only system, engines are built at each start
        return None
    return folder

"""Execution providers for each device; the providers themselves need hardware and are not tested."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs edge-mrcnn[onnx]")

import runtimes  # noqa: E402
from runtimes import onnx_backend, onnx_plugins  # noqa: E402
from runtimes.errors import MissingExtraError, UsageError  # noqa: E402


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if onnxruntime-gpu were installed."""
    names = [*onnx_backend.DEVICES["tensorrt"]]
    monkeypatch.setattr(onnx_backend.onnxruntime, "get_available_providers", lambda: names)


def test_unknown_device_names_the_known_ones(model_files: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="cpu, cuda, tensorrt"):
        runtimes.load(model_files[".onnx"], device="npu")


def test_device_that_is_not_built_in_is_named(model_files: dict[str, Path]) -> None:
    if "TensorrtExecutionProvider" in onnx_backend.onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has it")
    with pytest.raises(UsageError, match="TensorrtExecutionProvider"):
        runtimes.load(model_files[".onnx"], device="tensorrt")


def test_the_cpu_takes_what_the_gpu_cannot(jetson: None) -> None:
    assert [name for name, _ in onnx_backend.choose_providers("cuda", None, None)] == [
        "CUDAExecutionProvider", "CPUExecutionProvider",
    ]  # fmt: skip


def test_engines_are_kept_where_one_asks_for_it(jetson: None, tmp_path: Path) -> None:
    first, *others = onnx_backend.choose_providers("tensorrt", None, tmp_path)
    assert first[0] == "TensorrtExecutionProvider"
    assert first[1]["trt_engine_cache_enable"] == "1" and first[1]["trt_engine_cache_path"] == str(tmp_path)
    assert first[1]["trt_timing_cache_path"] == str(tmp_path)
    assert all(options == {} for _, options in others)


def test_named_providers_go_before_the_device(jetson: None) -> None:
    assert onnx_backend.choose_providers("tensorrt", ["CPUExecutionProvider"], None) == [("CPUExecutionProvider", {})]


def test_engines_of_each_model_and_version_have_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    first = onnx_backend.engine_folder("a" * 64)
    assert first is not None and first.is_dir() and first.parent == tmp_path / "user" / "edge-mrcnn" / "engines"
    assert first == onnx_backend.engine_folder("a" * 64) != onnx_backend.engine_folder("b" * 64)
    monkeypatch.setattr(onnx_backend.onnxruntime, "__version__", "0.0")
    assert onnx_backend.engine_folder("a" * 64) != first
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path / 'service'}:{tmp_path / 'other'}")
    of_service = onnx_backend.engine_folder("a" * 64)
    assert of_service is not None and of_service.parent == tmp_path / "service" / "engines"
    (tmp_path / "file").touch()
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "file"))
    assert onnx_backend.engine_folder("a" * 64) is None


def test_engines_are_kept_unasked(
    jetson: None, model_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[onnx_backend.Provider]] = []

    def note(model: Path, threads: int, providers: list[onnx_backend.Provider], **options: object) -> None:
        seen.append(providers)
        raise UsageError("seen")

    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(onnx_backend, "make_session", note)
    with pytest.raises(UsageError, match="seen"):
        runtimes.load(model_files[".onnx"], device="tensorrt")
    assert Path(seen[0][0][1]["trt_engine_cache_path"]).parent == tmp_path / "engines"


class Device:
    """A device in onnxruntime's description."""

    def __init__(self, ep_name: str, kind: str) -> None:
        self.ep_name = ep_name
        self.device = SimpleNamespace(type=SimpleNamespace(name=kind))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """As if OpenVINO's plug-in were installed and saw a CPU and a GPU; the libraries that were loaded."""
    loaded: list[str] = []
    module = SimpleNamespace(get_library_path=lambda: "plugin.so", get_ep_name=lambda: "OpenVINOExecutionProvider")
    devices = [Device("CPUExecutionProvider", "CPU")]
    devices += [Device("OpenVINOExecutionProvider", kind) for kind in ("CPU", "GPU")]
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", module)
    ort = onnx_plugins.onnxruntime
    monkeypatch.setattr(
        ort, "register_execution_provider_library", lambda name, path: loaded.append(path), raising=False
    )
    monkeypatch.setattr(ort, "get_ep_devices", lambda: devices, raising=False)
    onnx_plugins._register.cache_clear()
    yield loaded
    onnx_plugins._register.cache_clear()


def test_plugin_is_loaded_once_and_gives_the_device_that_is_meant(plugin: list[str]) -> None:
    assert [one.device.type.name for one in onnx_plugins.find_devices("openvino")] == ["CPU"]
    (found,) = onnx_plugins.find_devices("openvino:gpu")
    assert (found.ep_name, found.device.type.name) == ("OpenVINOExecutionProvider", "GPU")
    assert plugin == ["plugin.so"]


def test_device_that_the_plugin_does_not_see_is_named(plugin: list[str], model_files: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="openvino:npu: not found here; OpenVINOExecutionProvider finds cpu, gpu"):
        runtimes.load(model_files[".onnx"], device="OpenVINO:NPU")
    with pytest.raises(UsageError, match="cpu, cuda, tensorrt, openvino, tensorrt-rtx, qnn"):
        runtimes.load(model_files[".onnx"], device="openvino:tpu")


def test_plugin_that_is_not_installed_is_named(model_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)
    with pytest.raises(MissingExtraError, match="device qnn needs its plug-in: pip install onnxruntime-qnn"):
        runtimes.load(model_files[".onnx"], device="qnn")


def test_plugin_of_openvino_gives_the_results_of_the_cpu(model_files: dict[str, Path]) -> None:
    pytest.importorskip("onnxruntime_ep_openvino", reason="pip install onnxruntime-ep-openvino")
    image = np.zeros((64, 96, 3), np.uint8)
    image[..., 0] = 3
    with runtimes.load(model_files[".onnx"]) as cpu, runtimes.load(model_files[".onnx"], device="openvino") as other:
        assert other.describe()["provider"] == "OpenVINO"
        np.testing.assert_allclose(other.infer(image).boxes_xyxy, cpu.infer(image).boxes_xyxy, atol=0.01)

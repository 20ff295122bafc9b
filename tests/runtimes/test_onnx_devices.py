"""Which execution providers a device means; the providers themselves need hardware that no test asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs edge-mrcnn[onnx]")

import runtimes  # noqa: E402
from runtimes import onnx_backend  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402


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
    assert first == (
        "TensorrtExecutionProvider", {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(tmp_path)},
    )  # fmt: skip
    assert all(options == {} for _, options in others)


def test_named_providers_go_before_the_device(jetson: None) -> None:
    assert onnx_backend.choose_providers("tensorrt", ["CPUExecutionProvider"], None) == [("CPUExecutionProvider", {})]

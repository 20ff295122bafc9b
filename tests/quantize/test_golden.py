"""An INT8 file has golden tensors of its own, which detect a runtime that computes wrongly."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import runtimes
from quantize import CalibrationSet, QuantizeConfig, quantize
from runtimes import RawOutputs, Runtime, golden
from runtimes.formats import suffixes


@pytest.fixture(scope="module", params=suffixes())
def files(request, tmp_path_factory, float_files, pictures: CalibrationSet) -> Iterator[dict[str, Path]]:
    """Precision to file: a small real model of each format, with golden tensors, and what became of it."""
    source = request.getfixturevalue("small_tflite").path if request.param == ".tflite" else float_files[request.param]
    folder = tmp_path_factory.mktemp("golden")
    path = Path(shutil.copy(source, folder))
    if path.suffix == ".xml":
        shutil.copy(source.with_suffix(".bin"), folder)
    with runtimes.load(path, threads=1) as runtime:
        tensors = list(pictures.tensors(runtime.card, 3))
        golden.attach(path, golden.make_record(runtime, [(str(i), x, runtime.run(x)) for i, x in enumerate(tensors)]))
    output = quantize(path, folder / f"int8{path.suffix}", pictures, QuantizeConfig(images=4))
    return {"fp32": path, "int8": output}


def load(path: Path) -> Runtime:
    """Open a model as if it had spare rows: all rows of this small one are full of scores that rounding would
    reorder."""
    runtime = runtimes.load(path, threads=1)
    runtime.card = runtime.card.updated(max_detections=99)
    return runtime


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_right_runtime_passes(files: dict[str, Path], precision: str) -> None:
    with load(files[precision]) as runtime:
        total = golden.check(runtime, golden.read(files[precision]))[-1]
    assert runtime.card.precision == precision
    assert total.expected.passes(golden.EXPECTED[precision])
    assert total.expected.detections > 0


class Wrong(Runtime):
    """A runtime with displaced boxes."""

    def __init__(self, runtime: Runtime, shift_px: float) -> None:
        super().__init__(runtime.card)
        self._runtime, self._shift_px = runtime, shift_px

    def run(self, x: np.ndarray) -> RawOutputs:
        raw = self._runtime.run(x)
        return raw._replace(boxes=raw.boxes + np.float32(self._shift_px))

    def close(self) -> None: ...


@pytest.mark.parametrize(("precision", "shift_px"), [("fp32", 0.2), ("int8", 8)])
def test_a_wrong_runtime_is_caught(files: dict[str, Path], precision: str, shift_px: float) -> None:
    with load(files[precision]) as runtime:
        assert not golden.check(Wrong(runtime, shift_px), golden.read(files[precision]))[-1].passes


def test_torchs_outputs_are_passed_on(files: dict[str, Path]) -> None:
    float_record, int8_record = (golden.read(files[precision]) for precision in ("fp32", "int8"))
    for before, after in zip(float_record.cases, int8_record.cases, strict=True):
        assert np.array_equal(before.image, after.image)
        assert np.array_equal(before.reference.boxes, after.reference.boxes)


def test_what_other_tools_read_is_kept(files: dict[str, Path]) -> None:
    if files["int8"].suffix == ".onnx":
        onnx = pytest.importorskip("onnx")
        properties = {entry.key: entry.value for entry in onnx.load(files["int8"]).metadata_props}
        assert properties["model_info model_type"] == "MaskRCNN"
    elif files["int8"].suffix == ".xml":
        openvino = pytest.importorskip("openvino")
        model = openvino.Core().read_model(files["int8"])
        assert model.get_rt_info(["model_info", "model_type"]).astype(str) == "MaskRCNN"
        assert model.outputs[-1].get_any_name() == "scored_boxes"

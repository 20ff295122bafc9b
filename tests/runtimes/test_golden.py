"""Golden tensors are stored in a file of each format, and detect a runtime that computes something else."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import runtimes
from runtimes import FakeRuntime, ModelFileError, RawOutputs, Runtime, golden
from runtimes.formats import format_of, suffixes

ROOT = Path(__file__).parents[2]
SDKS = {".onnx": "onnxruntime", ".xml": "openvino", ".tflite": "ai_edge_litert"}
COUNTS = {"empty": 0, "sparse": 1, "crowded": 6}


class Noisy(Runtime):
    """A runtime with changed outputs."""

    def __init__(self, runtime: Runtime, field: str, noise: float) -> None:
        super().__init__(runtime.card)
        self._runtime, self._field, self._noise = runtime, field, noise
        self._rng = np.random.default_rng(0)

    def run(self, x: np.ndarray) -> RawOutputs:
        raw = self._runtime.run(x)
        values = getattr(raw, self._field)
        noise = self._noise * self._rng.uniform(0.5, 1, values.shape).astype(np.float32)
        return raw._replace(
            **{self._field: np.where(raw.scores.reshape(-1, *[1] * (values.ndim - 1)) > 0, values + noise, 0)}
        )

    def close(self) -> None: ...


@pytest.fixture(params=suffixes())
def path(request, model_files, tmp_path) -> Path:
    """A toy model of each format, with golden tensors."""
    suffix = request.param
    pytest.importorskip(SDKS[suffix], reason=f"needs edge-mrcnn[{format_of(f'model{suffix}').extra}]")
    if suffix == ".xml":
        shutil.copy(model_files[suffix].with_suffix(".bin"), tmp_path)
    path = Path(shutil.copy(model_files[suffix], tmp_path))
    with runtimes.load(path, threads=1) as runtime:
        golden.attach(
            path, golden.make_record(runtime, [(n, plain(c), runtime.run(plain(c))) for n, c in COUNTS.items()])
        )
    return path


def plain(count: int) -> np.ndarray:
    """An input in which the toy models find `count` objects."""
    image = np.zeros((1, 64, 96, 3), np.uint8)
    image[..., 0] = count
    return image


def test_the_same_runtime_passes(path: Path) -> None:
    with runtimes.load(path, threads=1) as runtime:
        outcomes = golden.check(runtime, golden.read(path))
    assert [outcome.name for outcome in outcomes] == [*COUNTS, "all"]
    assert all(outcome.passes for outcome in outcomes)
    assert outcomes[-1].expected.detections == 6  # of the full output the last row is a threshold


@pytest.mark.parametrize(("field", "noise"), [("boxes", 0.2), ("scores", 0.01), ("masks", 0.02)])
def test_a_runtime_with_a_little_noise_is_caught(path: Path, field: str, noise: float) -> None:
    with runtimes.load(path, threads=1) as runtime:
        assert not golden.check(Noisy(runtime, field, noise), golden.read(path))[-1].passes


def test_record_survives_the_file(path: Path) -> None:
    record = golden.read(path)
    with runtimes.load(path, threads=1) as runtime:
        for case in record.cases:
            raw = runtime.run(case.image)
            live = raw.scores > 0
            assert case.image.dtype == np.uint8 and np.array_equal(case.image, plain(COUNTS[case.name]))
            assert np.array_equal(case.expected.boxes, raw.boxes[live])
            assert np.array_equal(case.expected.labels, raw.labels[live])
            assert np.abs(case.expected.masks - raw.masks[live][: golden.MASKS]).max(initial=0) < 2e-4
    assert record.made_on.startswith(golden.platform.machine())


def test_model_and_card_stay_as_they_were(path: Path, model_files: dict[str, Path]) -> None:
    assert runtimes.read_card(path) == runtimes.read_card(model_files[path.suffix])


def test_a_second_record_takes_the_place_of_the_first(path: Path) -> None:
    size, record = path.stat().st_size, golden.read(path)
    golden.attach(path, record)
    assert abs(path.stat().st_size - size) < 100
    golden.attach(path, golden.Record(cases=record.cases[:1], made_on="elsewhere"))
    assert golden.read(path).made_on == "elsewhere" and len(golden.read(path).cases) == 1


def test_file_without_golden_tensors_says_what_to_do(path: Path, model_files: dict[str, Path]) -> None:
    with pytest.raises(ModelFileError, match="export it again"):
        golden.read(model_files[path.suffix])


def test_record_can_be_taken_out(path: Path, model_files: dict[str, Path]) -> None:
    golden.remove(path)
    assert abs(path.stat().st_size - model_files[path.suffix].stat().st_size) < 1500
    with pytest.raises(ModelFileError, match="no golden tensors"):
        golden.read(path)
    with runtimes.load(path, threads=1) as runtime:
        assert len(runtime.run(plain(3)).scores) >= 3


def test_derived_model_gets_golden_tensors_of_its_own(path: Path, tmp_path: Path) -> None:
    made = copy_to(path, tmp_path / "made")
    golden.attach(made, golden.Record(cases=(), made_on="nowhere"))
    golden.renew(path, made)
    record = golden.read(made)
    assert [case.name for case in record.cases] == list(COUNTS)
    assert record.made_on == golden.read(path).made_on


def test_damaged_record_is_refused_in_one_line(path: Path) -> None:
    file = runtimes.ModelFile(path)
    for data in (b"", b"no record", file.golden[:-40]):
        file.write_golden(data)
        with pytest.raises(ModelFileError, match="golden tensors are damaged") as caught:
            golden.read(path)
        assert "\n" not in str(caught.value)


def test_record_that_unpacks_to_a_lot_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", bytes(golden.MAX_BYTES + 1))
    with pytest.raises(ValueError, match="unpack to more"):
        golden.unpack(buffer.getvalue())


def test_nothing_found_is_no_failure_but_zero_detections() -> None:
    nothing = RawOutputs(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros((0, 14, 14)))
    runtime = FakeRuntime(respond=lambda x: nothing)
    total = golden.check(runtime, golden.make_record(runtime, [("empty", plain(0), nothing)]))[-1]
    assert total.passes and total.expected.detections == 0


def test_runtime_that_recorded_wrong_outputs_is_caught_by_torchs_outputs() -> None:
    runtime = FakeRuntime()
    right = runtime.run(plain(0))
    elsewhere = right._replace(boxes=right.boxes / 3)
    for precision in ("fp32", "int8"):
        wrong = FakeRuntime(runtime.card.updated(precision=precision), lambda x: elsewhere)
        record = golden.make_record(wrong, [("sparse", plain(0), right)])
        (single, total) = golden.check(wrong, record)
        assert single.expected.passes(golden.EXPECTED[precision])
        assert not total.passes


def test_half_precision_is_held_to_its_own_tolerance() -> None:
    class Half(FakeRuntime):
        def describe(self) -> dict[str, str]:
            return {"float layers": "bf16"}

    assert golden.precision_of(Half()) == "fp16"
    assert golden.precision_of(FakeRuntime()) == "fp32"
    assert golden.precision_of(Half(FakeRuntime().card.updated(precision="int8"))) == "int8"


def test_verify_needs_no_torch(path: Path) -> None:
    block = "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'onnx', 'nncf', 'litert_torch']))"
    code = f"{block}; sys.argv = ['edge-mrcnn', 'verify', {str(path)!r}]; from edge_mrcnn.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "checked on 6 detections" in result.stdout


def copy_to(path: Path, folder: Path) -> Path:
    folder.mkdir()
    if path.suffix == ".xml":
        shutil.copy(path.with_suffix(".bin"), folder)
    return Path(shutil.copy(path, folder))

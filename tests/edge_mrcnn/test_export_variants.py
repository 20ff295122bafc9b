"""Options of export: several images, static rows, half precision, opsets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
onnx = pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")
for package in ("onnxscript", "onnxruntime", "openvino", "nncf"):
    pytest.importorskip(package, reason="pip install 'edge-mrcnn[export]'")

import runtimes  # noqa: E402
from edge_mrcnn.cli.options import read_class_names  # noqa: E402
from edge_mrcnn.export.pipeline import adapt, export  # noqa: E402
from edge_mrcnn.export.settings import ExportConfig  # noqa: E402
from edge_mrcnn.export.tensorrt import find_violations  # noqa: E402
from edge_mrcnn.model.checkpoint import load_checkpoint  # noqa: E402
from edge_mrcnn.reference import load_reference  # noqa: E402
from quantize import CalibrationSet, quantize  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402
from runtimes.parity import Tolerance, compare_outputs  # noqa: E402

TARGETS = ("onnx", "openvino")
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


class Exported:
    """The files of an export with some settings, and its messages."""

    def __init__(self, checkpoint: Path, folder: Path, **settings: object) -> None:
        self.folder, self.said = folder, list[str]()
        config = ExportConfig(targets=TARGETS, **settings)
        self.files = export(checkpoint, folder, config, say=self.said.append)

    def file(self, name: str, target: str) -> Path:
        return self.folder / f"{name}{SUFFIXES[target]}"


@pytest.fixture(scope="module")
def static(toy_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(toy_checkpoint, tmp_path_factory.mktemp("static"), static=True, fp16=True, opset=20)


@pytest.fixture(scope="module")
def batched(toy_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(toy_checkpoint, tmp_path_factory.mktemp("batched"), batch=2, score_threshold=0.4)


class TestStatic:
    @pytest.mark.parametrize("target", TARGETS)
    def test_file_tells_its_contract(self, static: Exported, target: str) -> None:
        card = runtimes.read_card(static.file("toy-static", target))
        assert (card.rows, card.batch, card.precision) == ("static", 1, "fp32")

    @pytest.mark.parametrize("target", TARGETS)
    def test_rows_are_as_many_whatever_is_there(
        self, static: Exported, noise_tensors: list[np.ndarray], target: str
    ) -> None:
        with runtimes.load(static.file("toy-static", target), threads=1) as model:
            for tensor in (*noise_tensors, np.full_like(noise_tensors[0], 255)):
                raw = model.run(tensor)
                assert [len(values) for values in raw] == [6] * 4
                assert len(model.infer(tensor[0])) == (raw.scores > 0).sum()

    def test_no_shape_depends_on_the_data(self, static: Exported) -> None:
        import openvino

        model = openvino.Core().read_model(static.file("toy-static", "openvino"))
        assert not any(port.get_partial_shape().is_dynamic for op in model.get_ops() for port in op.outputs())

    def test_tensorrt_takes_every_node(self, static: Exported) -> None:
        assert find_violations(static.file("toy-static", "onnx")) == []
        assert any("toy-static.onnx: all nodes are supported by TensorRT" in line for line in static.said)

    def test_opset_is_the_one_asked_for(self, static: Exported) -> None:
        (opset,) = onnx.load(static.file("toy-static", "onnx")).opset_import
        assert opset.version == 20


class TestHalf:
    @pytest.mark.parametrize("target", TARGETS)
    def test_file_is_smaller_and_finds_the_same(
        self, static: Exported, toy_checkpoint: Path, noise_tensors: list[np.ndarray], target: str
    ) -> None:
        path = static.file("toy-static-fp16", target)
        sizes = [weights_of(file).stat().st_size for file in (path, static.file("toy-static", target))]
        assert sizes[0] < 0.75 * sizes[1]
        assert runtimes.read_card(path).precision == "fp16"
        with load_reference(toy_checkpoint, "cpu") as torch_model, runtimes.load(path, threads=1) as model:
            answers = (runtime.run_batch(np.concatenate(noise_tensors)) for runtime in (torch_model, model))
            near = Tolerance(box_px=0.5, score=0.01, mask=0.02, margin=0.01)
            parity = compare_outputs(*answers, torch_model.card, near)
        assert parity.passes(near) and parity.detections > 5, parity

    def test_box_arithmetic_stays_in_float(self, static: Exported) -> None:
        graph = onnx.shape_inference.infer_shapes(onnx.load(static.file("toy-static-fp16", "onnx"))).graph
        half = {v.name for v in graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
        makers = {node.name for node in graph.node if half & set(node.output) and node.op_type != "Cast"}
        assert any(name.startswith("pyramid.body") for name in makers)
        assert any(name.startswith("mask_head") for name in makers)
        assert not [name for name in makers if name.startswith(("deploy", "box_pool", "mask_pool", "box_predictor"))]

    def test_tensorrt_takes_it(self, static: Exported) -> None:
        assert find_violations(static.file("toy-static-fp16", "onnx")) == []

    def test_tflite_weights_are_halved(self, small_tflite, tmp_path: Path) -> None:
        pytest.importorskip("ai_edge_quantizer", reason="pip install 'edge-mrcnn[export]'")
        from edge_mrcnn.export.half import halve

        path = tmp_path / "half.tflite"
        halve(small_tflite.path, path)
        with runtimes.load(small_tflite.path, threads=1) as exact, runtimes.load(path, threads=1) as half:
            assert half.card.precision == "fp16"
            image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
            expected, found = exact.infer(image), half.infer(image)
        assert path.stat().st_size < 0.8 * small_tflite.path.stat().st_size
        assert len(found) == len(expected) > 0
        assert abs(found.scores[0] - expected.scores[0]) < 0.02
        assert np.abs(found.boxes_xyxy[0] - expected.boxes_xyxy[0]).max() < 1


class TestInt8:
    @pytest.fixture
    def pictures(self, tmp_path: Path, noise_tensors: list[np.ndarray]) -> CalibrationSet:
        for index, tensor in enumerate(noise_tensors):
            cv2.imwrite(str(tmp_path / f"{index}.png"), tensor[0])
        return CalibrationSet.load(tmp_path)

    def test_static_file_is_quantized_as_tensorrt_takes_it(
        self, static: Exported, pictures: CalibrationSet, tmp_path: Path, noise_tensors: list[np.ndarray]
    ) -> None:
        path = quantize(static.file("toy-static", "onnx"), tmp_path / "int8.onnx", pictures)
        assert find_violations(path) == []
        kinds = [node.op_type for node in onnx.load(path).graph.node]
        assert kinds.count("QuantizeLinear") > 10
        with runtimes.load(path, threads=1) as model:
            assert (model.card.precision, model.card.rows) == ("int8", "static")
            assert len(model.infer(noise_tensors[0][0])) > 0

    def test_batch_file_is_calibrated_with_batches(
        self, batched: Exported, pictures: CalibrationSet, tmp_path: Path, noise_tensors: list[np.ndarray]
    ) -> None:
        path = quantize(batched.file("toy-b2", "onnx"), tmp_path / "int8.onnx", pictures)
        assert any("zero point" in str(violation) for violation in find_violations(path))  # asymmetric, for CPUs
        with runtimes.load(path, threads=1) as model:
            assert [len(found) > 0 for found in model.infer_batch([noise_tensors[0][0]] * 2)] == [True, True]


class TestBatch:
    @pytest.mark.parametrize("target", TARGETS)
    def test_each_image_gives_the_outputs_of_a_single_run(
        self, batched: Exported, toy_checkpoint: Path, noise_tensors: list[np.ndarray], target: str
    ) -> None:
        images = [tensor[0] for tensor in (*noise_tensors, noise_tensors[0])]
        with runtimes.load(batched.file("toy-b2", target), threads=1) as model:
            assert (model.card.batch, model.card.rows) == (2, "dynamic")
            together, alone = model.infer_batch(images), [model.infer(image) for image in images]
        counts = [len(found) for found in alone]
        assert counts == [len(found) for found in together] and len(set(counts)) > 1
        for found, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
            np.testing.assert_allclose(found.mask_probs, expected.mask_probs, atol=1e-4)

    def test_tflite_is_refused_with_an_alternative(self) -> None:
        with pytest.raises(UsageError, match="--target onnx,openvino"):
            ExportConfig(batch=2)

    @pytest.mark.parametrize("settings", [{"batch": 0}, {"opset": 17}, {"opset": 22}])
    def test_impossible_settings_are_refused(self, settings: dict) -> None:
        with pytest.raises(UsageError, match="expected"):
            ExportConfig(targets=TARGETS, **settings)


class TestClasses:
    """`export --classes`."""

    @pytest.mark.parametrize(
        ("name", "text", "ids"),
        [
            ("names.txt", "\ufeffa\n\nb b\n", (1, 2)),
            ("names.json", '["a", "b b"]', (1, 2)),
            ("data.yaml", "names: {0: a, 1: b b}", (1, 2)),
            ("data.json", '{"categories": [{"id": 9, "name": "b b"}, {"id": 4, "name": "a"}]}', (4, 9)),
        ],
    )
    def test_names_come_from_a_list_or_from_coco_data(
        self, toy_checkpoint: Path, tmp_path: Path, name: str, text: str, ids: tuple[int, ...]
    ) -> None:
        (tmp_path / name).write_text(text, encoding="utf-8")
        names = read_class_names(str(tmp_path / name))
        assert names == (("a", "b b"), ids)
        renamed = adapt(load_checkpoint(toy_checkpoint), ExportConfig(classes=names[0], category_ids=names[1]))
        assert (renamed.classes, renamed.category_ids) == names

    @pytest.mark.parametrize(
        ("classes", "ids"),
        [
            (("__background__", "a", "b"), (1, 2, 3)),
            (("things", "a", "b"), (0, 1, 2)),  # the root of a Roboflow export
        ],
    )
    def test_background_is_left_out(self, toy_checkpoint: Path, classes: tuple[str, ...], ids: tuple[int, ...]) -> None:
        renamed = adapt(load_checkpoint(toy_checkpoint), ExportConfig(classes=classes, category_ids=ids))
        assert (renamed.classes, renamed.category_ids) == (("a", "b"), (1, 2))

    @pytest.mark.parametrize(
        ("name", "text"), [("three.txt", "a\nb\nc\n"), ("other.json", '{"images": []}'), ("latin.txt", "caf\xe9\nb\n")]
    )
    def test_other_files_are_refused_in_one_line(
        self, toy_checkpoint: Path, cli: Callable, tmp_path: Path, name: str, text: str
    ) -> None:
        (tmp_path / name).write_text(text, encoding="latin-1")
        outcome = cli("export", "--weights", toy_checkpoint, "--classes", tmp_path / name, "-o", tmp_path)
        assert outcome.code == 1 and len(outcome.err.splitlines()) == 1 and "expected" in outcome.err


def weights_of(path: Path) -> Path:
    return path.with_suffix(".bin") if path.suffix == ".xml" else path

"""A model that only divides pictures by 255 multiplies their bytes themselves in INT8; any other keeps a float stem.

In `TestSettling`: rounding its weights costs pictures less than rounding what it gives.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtimes
from quantize import CalibrationSet, QuantizeConfig, quantize
from quantize.stem import round_weights
from runtimes.formats import suffixes

pytest.importorskip("nncf", reason="pip install 'edge-mrcnn[export]'")

STEM_BLOCK = "backbone.stage0.0"
NORMALIZED = (".onnx", ".xml")


@pytest.fixture(scope="module", params=suffixes())
def plain(request: pytest.FixtureRequest, float_files: dict[str, Path]) -> Path:
    """The FP32 file of a model whose pictures are divided by 255 and nothing else."""
    is_tflite = request.param == ".tflite"
    return request.getfixturevalue("small_tflite").path if is_tflite else float_files[request.param]


@pytest.fixture(scope="module")
def small(plain: Path, pictures: CalibrationSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its INT8 file."""
    output = tmp_path_factory.mktemp("bytes") / plain.name
    return quantize(plain, output, pictures, QuantizeConfig(images=2))


@pytest.fixture(scope="module")
def normalized_files(
    make_small: Callable[[], tuple[Any, Any]], float_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Suffix to the FP32 file of the same model with ImageNet's mean and deviation."""
    from edge_mrcnn.export.graph import DeployGraph
    from edge_mrcnn.export.onnx_target import write_onnx
    from edge_mrcnn.export.openvino_target import write_openvino
    from edge_mrcnn.model.mask_rcnn import LetterboxedInput

    model, config = make_small()
    model.transform = LetterboxedInput(config.image_size_hw)
    graph, folder = DeployGraph(model, config), tmp_path_factory.mktemp("normalized")
    for suffix, write in ((".onnx", write_onnx), (".xml", write_openvino)):
        write(graph, runtimes.read_card(float_files[suffix]), folder / f"normalized{suffix}")
    return {suffix: folder / f"normalized{suffix}" for suffix in NORMALIZED}


def is_stem_integer(path: Path) -> bool:
    """Whether the first convolution of a file is in INT8."""
    from edge_mrcnn.inspection import list_operators

    stem = next(operator for operator in list_operators(path) if operator.weights)
    assert "stage0" in stem.name
    return stem.is_integer


def readers_of_the_picture(path: Path) -> list[str]:
    """Types of operators."""
    import onnx

    return [node.op_type for node in onnx.load(path).graph.node if "image" in node.input]


def stem_input(path: Path, image: np.ndarray) -> np.ndarray:
    """What the first convolution of an INT8 file reads of a picture, (1, H, W, 3), as 255 times its value."""
    return {".onnx": onnx_input, ".xml": openvino_input, ".tflite": tflite_input}[path.suffix](path, image)


def onnx_input(path: Path, image: np.ndarray) -> np.ndarray:
    import onnx
    import onnxruntime

    model = onnx.load(path)
    name = next(node.input[0] for node in model.graph.node if node.op_type == "Conv")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return 255 * session.run(None, {"image": image})[0].transpose(0, 2, 3, 1)


def openvino_input(path: Path, image: np.ndarray) -> np.ndarray:
    import openvino
    from openvino import opset13

    model = openvino.Core().read_model(path)
    stem = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
    assert stem.input_value(0).get_node().get_type_name() == "FakeQuantize"
    head = openvino.Model([opset13.result(stem.input_value(0))], model.get_parameters())
    return openvino.compile_model(head, "CPU")(image)[0].transpose(0, 2, 3, 1)  # 1 / 255 is in the weights


def tflite_input(path: Path, image: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from runtimes.formats.tflite_format import strip_notes

    interpreter = Interpreter(
        model_content=strip_notes(path.read_bytes()), experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    interpreter.get_signature_runner("detect")(image=image)
    like = [t for t in interpreter.get_tensor_details() if list(t["shape"]) == list(image.shape)]
    tensor = next(t for t in like if t["dtype"] == np.int8)
    scale, zero = tensor["quantization"]
    return 255 * np.float32(scale) * (interpreter.get_tensor(tensor["index"]).astype(np.float32) - zero)


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors:UserWarning")
def test_stem_multiplies_the_very_bytes_of_a_picture(small: Path) -> None:
    height, width = runtimes.read_card(small).input_size_hw
    image = np.random.default_rng(0).permutation(np.arange(3 * height * width) % 256).astype(np.uint8)
    image = image.reshape(1, height, width, 3)
    assert is_stem_integer(small)
    np.testing.assert_allclose(stem_input(small, image), image, rtol=1e-6, atol=0)


def test_onnx_runtime_reads_the_picture_without_a_float_copy(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path
) -> None:
    output = quantize(float_files[".onnx"], tmp_path / "small.onnx", pictures, QuantizeConfig(images=1))
    assert readers_of_the_picture(output) == ["Transpose"]


def test_card_names_no_float_stem(small: Path) -> None:
    assert "first convolution" not in runtimes.read_card(small).calibration["float"]


def test_stem_can_be_kept_in_float(plain: Path, pictures: CalibrationSet, tmp_path: Path) -> None:
    output = quantize(plain, tmp_path / plain.name, pictures, QuantizeConfig(images=1, keep_float=(STEM_BLOCK,)))
    assert not is_stem_integer(output)
    assert runtimes.read_card(output).calibration["float"][STEM_BLOCK]
    with runtimes.load(output, threads=1) as runtime:
        assert len(runtime.infer(next(pictures.images()))) > 0


@pytest.mark.parametrize("suffix", NORMALIZED)
def test_stem_of_a_normalized_picture_stays_float(
    normalized_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path, suffix: str
) -> None:
    output = quantize(normalized_files[suffix], tmp_path / f"int8{suffix}", pictures, QuantizeConfig(images=1))
    assert not is_stem_integer(output)
    assert runtimes.read_card(output).calibration["float"]["first convolution"]


def test_stem_of_a_static_file_stays_float(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path
) -> None:
    """TensorRT takes no uint8 behind the input, and int8 without zero point holds no byte."""
    import onnx

    from runtimes.model_card import CARD_KEY

    model = onnx.load(float_files[".onnx"])
    card = runtimes.read_card(float_files[".onnx"]).updated(rows="static")
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    plain = tmp_path / "static.onnx"
    onnx.save(model, plain)
    runtimes.seal.write_seal(plain)
    output = quantize(plain, tmp_path / "static-int8.onnx", pictures, QuantizeConfig(images=1))
    assert not is_stem_integer(output)
    assert readers_of_the_picture(output) == ["Cast"]
    assert "bytes" in runtimes.read_card(output).calibration["float"]["first convolution"]


class TestSettling:
    """Weights (N, 3, 3, 3), rounded to the grid of 8 bits."""

    @pytest.fixture
    def weights(self) -> np.ndarray:
        """Filters of many ranges, some of which give zero for a uniform picture."""
        weights = np.random.default_rng(3).normal(size=(16, 3, 3, 3)).astype(np.float32)
        weights[8:] -= weights[8:].mean((1, 2, 3), keepdims=True)
        return weights * np.geomspace(0.01, 10, 16, dtype=np.float32)[:, None, None, None]

    @pytest.fixture
    def scenes(self) -> list[np.ndarray]:
        """Smooth pictures, (1, 64, 64, 3) uint8."""
        import cv2

        rng = np.random.default_rng(4)
        coarse = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
        return [cv2.resize(picture, (64, 64), interpolation=cv2.INTER_CUBIC)[None] for picture in coarse]

    def test_they_lie_on_the_grid_of_the_largest(self, weights: np.ndarray, scenes: list[np.ndarray]) -> None:
        rounded = round_weights(weights, scenes[:3])
        largest = np.abs(weights).max((1, 2, 3), keepdims=True)
        np.testing.assert_allclose(np.abs(rounded).max((1, 2, 3), keepdims=True), largest, rtol=1e-6)
        steps = rounded / largest * 127
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)

    def test_their_errors_cancel_in_other_pictures(self, weights: np.ndarray, scenes: list[np.ndarray]) -> None:
        scale = np.abs(weights).max((1, 2, 3), keepdims=True) / 127
        nearest, rounded = np.rint(weights / scale) * scale, round_weights(weights, scenes[:3])
        patches = np.lib.stride_tricks.sliding_window_view(np.concatenate(scenes[3:]), (3, 3), axis=(1, 2))
        errors = [np.square(patches.reshape(-1, 27) @ (w - weights).reshape(16, 27).T) for w in (nearest, rounded)]
        assert np.median(errors[1].mean(0) / errors[0].mean(0)) < 0.2

    def test_black_pictures_leave_each_weight_at_its_nearest(self, weights: np.ndarray) -> None:
        scale = np.abs(weights).max((1, 2, 3), keepdims=True) / 127
        rounded = round_weights(weights, [np.zeros((1, 8, 8, 3), np.uint8)])
        np.testing.assert_allclose(rounded, np.rint(weights / scale) * scale, rtol=1e-5, atol=1e-6)

    def test_a_channel_of_zeros_stays_zero(self, scenes: list[np.ndarray]) -> None:
        assert not round_weights(np.zeros((2, 3, 3, 3), np.float32), scenes).any()

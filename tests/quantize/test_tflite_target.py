"""INT8 TFLite: the file runs, is small, agrees with the float one and records how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import runtimes
from quantize import QuantizeConfig, quantize
from quantize.calibration import CalibrationSet
from runtimes.errors import DataError, ModelFileError, UsageError

pytest.importorskip("ai_edge_quantizer", reason="pip install 'edge-mrcnn[export]'")

from quantize.tflite_target import flatten_biases, mask_inputs, outputs_by_block, shorten_names  # noqa: E402


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> CalibrationSet:
    folder = tmp_path_factory.mktemp("calibration")
    rng = np.random.default_rng(1)
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (64, 128, 3), dtype=np.uint8))
    return CalibrationSet.load(folder)


@pytest.fixture(scope="module")
def int8_file(small_tflite, calibration: CalibrationSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("int8") / "small.tflite"
    quantize(small_tflite.path, output, calibration, QuantizeConfig(images=3))
    return output


def test_int8_file_is_small(small_tflite, int8_file: Path) -> None:
    assert int8_file.stat().st_size < 0.45 * small_tflite.path.stat().st_size


def test_int8_file_agrees_with_the_float_one(small_tflite, int8_file: Path, calibration: CalibrationSet) -> None:
    with runtimes.load(small_tflite.path, threads=1) as exact, runtimes.load(int8_file, threads=1) as rounded:
        for image in calibration.images():
            expected, found = exact.infer(image), rounded.infer(image)
            assert len(found) > 0
            assert found.mask_probs.shape[1:] == expected.mask_probs.shape[1:]
            assert abs(found.scores[0] - expected.scores[0]) < 0.1
            assert np.isfinite(found.boxes_xyxy).all()


def test_the_upsampling_of_masks_is_quantized(small_tflite) -> None:
    from quantize.tflite_target import outputs_by_block
    from runtimes.formats.tflite_format import strip_notes

    assert outputs_by_block(strip_notes(small_tflite.path.read_bytes()))["mask_head.conv5_mask"]


def test_biases_of_four_dimensions_become_flat(small_tflite) -> None:
    """LiteRT refuses an INT8 file whose bias has its channels in the last of four dimensions."""
    from ai_edge_litert.tools import flatbuffer_utils

    from runtimes.formats.tflite_format import strip_notes

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(strip_notes(small_tflite.path.read_bytes())))
    biases = fully_connected_biases(model)
    expected = [tuple(bias.shape) for bias in biases]
    for bias in biases:
        bias.shape = [1, 1, 1, *bias.shape]
    flattened = flatten_biases(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    found = fully_connected_biases(flatbuffer_utils.read_model_from_bytearray(bytearray(flattened)))
    assert [tuple(bias.shape) for bias in found] == expected
    assert expected


def fully_connected_biases(model: Any) -> list[Any]:
    """The bias tensors of a model's fully connected layers."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    found = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            kind = model.operatorCodes[operator.opcodeIndex].builtinCode
            if kind == BuiltinOperator.FULLY_CONNECTED and operator.inputs[2] >= 0:
                found.append(graph.tensors[operator.inputs[2]])
    return found


def test_signatures_give_the_maps_that_the_mask_takes(small_tflite, int8_file: Path) -> None:
    """The quantizer leaves a signature at an INT8 tensor where its graph's output is float."""
    image = np.random.default_rng(2).integers(0, 256, (1, 64, 128, 3), dtype=np.uint8)
    exact, rounded = (detect(path, image) for path in (small_tflite.path, int8_file))
    assert set(exact) == set(rounded) == {"boxes", "scores", "labels", "p0"}
    assert rounded["p0"].dtype == np.float32
    assert np.corrcoef(exact["p0"].ravel(), rounded["p0"].ravel())[0, 1] > 0.98


def detect(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    from runtimes.formats.tflite_format import strip_notes

    interpreter = Interpreter(model_content=strip_notes(path.read_bytes()), num_threads=1)
    return interpreter.get_signature_runner("detect")(image=image)


def test_card_says_how_it_was_quantized(int8_file: Path, calibration: CalibrationSet) -> None:
    card = runtimes.read_card(int8_file)
    assert (card.precision, card.target) == ("int8", "tflite")
    assert card.calibration["manifest_sha256"] == calibration.manifest_sha256
    assert card.calibration["images"] == 3
    assert all(card.calibration["float"].values())


def test_kept_part_stays_float(small_tflite, int8_file: Path, calibration: CalibrationSet, tmp_path: Path) -> None:
    output = tmp_path / "small.tflite"
    config = QuantizeConfig(images=1, keep_float=("backbone", "fpn"))
    quantize(small_tflite.path, output, calibration, config)
    assert output.stat().st_size > 2 * int8_file.stat().st_size
    assert runtimes.read_card(output).calibration["float"]["fpn"]
    with runtimes.load(output, threads=1) as runtime:
        assert len(runtime.infer(next(calibration.images()))) > 0


def test_pictures_without_objects_cannot_calibrate(small_tflite, calibration: CalibrationSet, tmp_path: Path) -> None:
    output = tmp_path / "small.tflite"
    with pytest.raises(DataError, match="detects nothing in the calibration images"):
        quantize(silence(small_tflite.path, tmp_path), output, calibration, QuantizeConfig(images=1))
    assert not output.exists()


def silence(path: Path, folder: Path) -> Path:
    """The same model, which calls everything background."""
    from ai_edge_litert.tools import flatbuffer_utils

    from runtimes.formats.tflite_format import strip_notes
    from runtimes.model_file import ModelFile

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(strip_notes(path.read_bytes())))
    for graph in model.subgraphs:
        for operator in graph.operators:
            if b"Linear_cls_score" in graph.tensors[operator.outputs[0]].name and len(operator.inputs) == 3:
                weight, bias = (model.buffers[graph.tensors[index].buffer] for index in operator.inputs[1:])
                weight.data = np.zeros_like(weight.data)
                bias.data = np.array([20, 0, 0, 0], np.float32).view(np.uint8)
    silent = folder / "silent.tflite"
    silent.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    ModelFile(silent).write_card(runtimes.read_card(path))
    return silent


def test_model_of_another_tool_is_refused(calibration: CalibrationSet, tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(b"not ours" * 100)
    with pytest.raises(ModelFileError, match="edge-mrcnn export"):
        quantize(other, tmp_path / "out.tflite", calibration, QuantizeConfig())


def test_names_say_the_module_without_its_class(small_tflite, int8_file: Path) -> None:
    from edge_mrcnn.inspection import list_operators
    from runtimes.formats.tflite_format import strip_notes

    short, plain = list_operators(int8_file), list_operators(small_tflite.path)
    assert {o.name for o in plain if o.weights} == {o.name for o in short if o.weights}
    again = strip_notes(int8_file.read_bytes())
    assert b"torch.nn" not in again and len(shorten_names(again)) == len(again)


def test_unknown_block_is_a_usage_error(small_tflite, calibration: CalibrationSet, tmp_path: Path) -> None:
    config = QuantizeConfig(images=1, keep_float=("backbone.stage99",))
    with pytest.raises(UsageError, match="no block backbone.stage99"):
        quantize(small_tflite.path, tmp_path / "out.tflite", calibration, config)


def test_every_part_has_blocks(small_tflite) -> None:
    from quantize.parts import QUANTIZED
    from runtimes.formats.tflite_format import strip_notes

    blocks = outputs_by_block(strip_notes(small_tflite.path.read_bytes()))
    assert {block.split(".")[0] for block in blocks} == set(QUANTIZED)
    assert all(names for names in blocks.values())


def test_everything_may_stay_float(small_tflite, calibration: CalibrationSet, tmp_path: Path) -> None:
    from quantize.parts import QUANTIZED

    config = QuantizeConfig(images=1, keep_float=QUANTIZED)
    output = quantize(small_tflite.path, tmp_path / "out.tflite", calibration, config)
    assert output.stat().st_size > 0.95 * small_tflite.path.stat().st_size


@pytest.mark.parametrize(("live", "runs"), [(0, 0), (1, 1), (4, 1), (5, 2)])
def test_mask_is_calibrated_with_live_rows_only(live: int, runs: int) -> None:
    scores = np.where(np.arange(6) < live, 0.5, 0).astype(np.float32)
    boxes = np.arange(24, dtype=np.float32).reshape(6, 4)
    found = {"boxes": boxes, "scores": scores, "labels": np.arange(6, dtype=np.int32), "p0": np.zeros(1)}
    inputs = list(mask_inputs(found, 4))
    assert len(inputs) == runs
    assert all(set(batch) == {"boxes", "labels", "p0"} and len(batch["labels"]) == 4 for batch in inputs)
    assert {int(label) for batch in inputs for label in batch["labels"]} == set(range(live))

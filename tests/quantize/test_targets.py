"""The contract of INT8 on ONNX and OpenVINO: the file runs, agrees, repeats, and lists the layers in float."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runtimes
from quantize import TARGETS, CalibrationSet, QuantizeConfig, quantize
from quantize.base import provenance
from quantize.parts import (
    ALWAYS_FLOAT,
    QUANTIZED,
    TENSORS,
    block_of,
    expand_blocks,
    is_quantized,
    module_path,
    part_of,
    tensor_pattern,
)
from quantize.settings import adds_in_16_bits
from runtimes.board import Board
from runtimes.bundle import write_bundle
from runtimes.errors import MissingFileError, ModelFileError, UnknownFormatError, UsageError
from runtimes.formats import format_of

SUFFIXES = (".onnx", ".xml")


@pytest.fixture(scope="module")
def int8_files(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    pytest.importorskip("nncf", reason="pip install 'edge-mrcnn[export]'")
    folder = tmp_path_factory.mktemp("int8")
    return {suffix: quantize(float_files[suffix], folder / f"small{suffix}", pictures) for suffix in SUFFIXES}


def count_quantized(path: Path) -> dict[str, int]:
    """Part of the net to the number of its layers with INT8 weights (ONNX), or of its quantizers (OpenVINO)."""
    if path.suffix == ".onnx":
        import onnx

        nodes = onnx.load(path).graph.node
        readers = [n.name for n in nodes if len(n.input) > 1 and "DequantizeLinear" in n.input[1]]
    else:
        import openvino

        model = openvino.Core().read_model(path)
        fakes = [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
        readers = [
            target.get_node().get_friendly_name() for node in fakes for target in node.output(0).get_target_inputs()
        ]
    counts = dict.fromkeys([*QUANTIZED, None], 0)
    for name in readers:
        counts[part_of(name)] += 1
    return counts


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_int8_file_agrees_with_the_float_one(
    float_files: dict[str, Path], int8_files: dict[str, Path], pictures: CalibrationSet, suffix: str
) -> None:
    with (
        runtimes.load(float_files[suffix], threads=1) as exact,
        runtimes.load(int8_files[suffix], threads=1) as rounded,
    ):
        for image in pictures.images():
            expected, found = exact.infer(image), rounded.infer(image)
            assert len(expected) > 0 and len(found) > 0
            assert abs(expected.scores[0] - found.scores[0]) < 0.15
            assert np.isfinite(found.boxes_xyxy).all()
            assert found.mask_probs.shape[1:] == (28, 28)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_part_is_quantized(int8_files: dict[str, Path], suffix: str) -> None:
    counts = count_quantized(int8_files[suffix])
    assert all(counts[part] > 0 for part in QUANTIZED), counts


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_card_says_how_it_was_made(int8_files: dict[str, Path], pictures: CalibrationSet, suffix: str) -> None:
    card = runtimes.read_card(int8_files[suffix])
    assert card.precision == "int8"
    assert card.calibration["manifest_sha256"] == pictures.manifest_sha256
    assert card.calibration["images"] == 6
    assert set(card.calibration["float"]) >= set(ALWAYS_FLOAT)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_calibration_gives_the_same_file(
    float_files: dict[str, Path], int8_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path, suffix: str
) -> None:
    again = quantize(float_files[suffix], tmp_path / f"small{suffix}", pictures)
    weights = ".bin" if suffix == ".xml" else suffix
    assert again.with_suffix(weights).read_bytes() == int8_files[suffix].with_suffix(weights).read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_part_kept_in_float_is_float(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path, suffix: str
) -> None:
    config = QuantizeConfig(images=2, keep_float=("rpn", "mask_head"))
    output = quantize(float_files[suffix], tmp_path / f"kept{suffix}", pictures, config)
    counts = count_quantized(output)
    assert counts["rpn"] == counts["mask_head"] == 0
    assert counts["backbone"] > 0 and counts["box_head"] > 0
    card = runtimes.read_card(output)
    assert {"rpn", "mask_head"} <= set(card.calibration["float"]) and card.calibration["images"] == 2


@pytest.mark.parametrize(("reduce_range", "largest"), [("on", 64), ("off", 127)])
def test_reduced_weights_leave_room_for_sums_of_16_bits(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path, reduce_range: str, largest: int
) -> None:
    import onnx

    config = QuantizeConfig(images=1, reduce_range=reduce_range)
    output = quantize(float_files[".onnx"], tmp_path / "small.onnx", pictures, config)
    weights = [onnx.numpy_helper.to_array(i) for i in onnx.load(output).graph.initializer]
    taken = [int(np.abs(w.astype(int)).max()) for w in weights if w.dtype == np.int8 and w.ndim > 1]
    assert taken and max(taken) <= largest and max(taken) >= largest - 1
    assert runtimes.read_card(output).calibration["weight_bits"] == (7 if reduce_range == "on" else 8)


def test_reduced_openvino_weights_lose_a_bit(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path
) -> None:
    config = QuantizeConfig(images=1, reduce_range="on")
    output = quantize(float_files[".xml"], tmp_path / "small.xml", pictures, config)
    taken = [np.abs(c).max() for c in stored_integers(output)]
    assert taken and max(taken) <= 64
    assert runtimes.read_card(output).calibration["weight_bits"] == 7


def stored_integers(path: Path) -> list[np.ndarray]:
    """The int8 weights in an IR."""
    import openvino

    constants = [n for n in openvino.Core().read_model(path).get_ordered_ops() if n.get_type_name() == "Constant"]
    return [
        n.get_data().astype(int)
        for n in constants
        if n.get_element_type() == openvino.Type.i8 and n.get_data().ndim > 1
    ]


@pytest.mark.parametrize(
    ("architecture", "features", "overflows"),
    [("x86_64", ("avx2",), True), ("x86_64", ("avx512", "vnni"), False), ("aarch64", ("neon",), False)],
)
def test_sums_overflow_on_x86_without_vnni_only(architecture: str, features: tuple[str, ...], overflows: bool) -> None:
    board = Board(model="", processor="", architecture=architecture, cores=1, memory_bytes=0, features=features)
    assert adds_in_16_bits(board) == overflows


def test_float_file_is_left_as_it_was_and_nothing_lies_about(
    float_files: dict[str, Path], int8_files: dict[str, Path]
) -> None:
    assert {p.name for p in float_files[".onnx"].parent.iterdir()} == {"small.onnx", "small.xml", "small.bin"}
    assert {p.name for p in int8_files[".onnx"].parent.iterdir()} == {"small.onnx", "small.xml", "small.bin"}
    assert runtimes.read_card(float_files[".onnx"]).precision == "fp32"


def test_missing_model_is_named(pictures: CalibrationSet, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="none.onnx"):
        quantize(tmp_path / "none.onnx", tmp_path / "out.onnx", pictures)


def test_unknown_format_names_the_known_ones(pictures: CalibrationSet, tmp_path: Path) -> None:
    (tmp_path / "model.pb").touch()
    with pytest.raises(UnknownFormatError, match=r"\.onnx, \.xml, \.tflite"):
        quantize(tmp_path / "model.pb", tmp_path / "out.pb", pictures)


@pytest.mark.parametrize("suffix", [*SUFFIXES])
def test_damaged_model_is_refused_and_leaves_nothing(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path, suffix: str
) -> None:
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(float_files[suffix].read_bytes()[:500])
    broken.with_suffix(".bin").touch()
    with pytest.raises(ModelFileError, match="broken"):
        quantize(broken, tmp_path / f"out{suffix}", pictures)
    assert {p.name for p in tmp_path.iterdir()} == {broken.name, "broken.bin"}


def test_quick_calibration_quantizes_the_same_layers(
    float_files: dict[str, Path], int8_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path
) -> None:
    quick = quantize(float_files[".xml"], tmp_path / "quick.xml", pictures, QuantizeConfig(images=2, effort="quick"))
    full = int8_files[".xml"]
    assert count_quantized(quick) == count_quantized(full)
    assert quick.with_suffix(".bin").read_bytes() != full.with_suffix(".bin").read_bytes()


class TestSettings:
    def test_heavy_models_are_calibrated_quickly_by_default(self) -> None:
        light, heavy = 4_500_000, 44_000_000
        assert [QuantizeConfig().is_quick(parameters) for parameters in (light, heavy)] == [False, True]
        assert QuantizeConfig(effort="quick").is_quick(light) and not QuantizeConfig(effort="full").is_quick(heavy)

    @pytest.mark.parametrize(
        "wrong", [{"images": 0}, {"keep_float": ("tail",)}, {"reduce_range": "yes"}, {"effort": "low"}]
    )
    def test_impossible_ones_are_refused(self, wrong: dict) -> None:
        with pytest.raises(UsageError):
            QuantizeConfig(**wrong)


class TestParts:
    @pytest.mark.parametrize(
        ("name", "part"),
        [
            ("pyramid.body.net.stage2.0/Conv_7", "backbone"),
            ("pyramid.fpn.inner_blocks.0.0/Conv_1", "fpn"),
            ("rpn_head.conv.0.0/Conv_3", "rpn"),
            ("rpn_head.cls_logits/Conv_4", None),
            ("box_head.1/Gemm_5", "box_head"),
            ("box_predictor.cls_score/Gemm_6", None),
            ("mask_predictor.conv5_mask/ConvTranspose_9", "mask_head"),
            ("mask_predictor.mask_fcn_logits/Conv_9", None),
            ("deploy/Mul_10", None),
            ("box_pool/RoiAlign_3", None),
            ("cls_score/Gemm_2", None),
        ],
    )
    def test_a_node_belongs_to_the_part_of_its_module(self, name: str, part: str | None) -> None:
        assert part_of(name) == part
        assert is_quantized(name, ()) == (part is not None)
        assert not is_quantized(name, {block_of(name)})

    @pytest.mark.parametrize(
        ("tensor", "path"),
        [
            ("x.DetectSignature/y.PyramidBackbone_pyramid/z.StagedBackbone_body;7", "pyramid.body"),
            ("x.D/y.P_pyramid/z.S_body/t.Conv2dNormActivation_0/torch.Conv2d_0;;x.D/y.P/ReLU_1;", "pyramid.body.0.0"),
            ("x.DetectSignature/torch.RPNHead_rpn_head/torch.Conv2d_cls_logits;2", "rpn_head.cls_logits"),
            ("detect_p0_output", "pyramid.fpn.layer_blocks.0"),
            ("x.MaskSignature/e.PointwiseUpsampling_conv5_mask;1", "conv5_mask"),
            ("x.DetectSignature;26", "deploy"),
        ],
    )
    def test_a_tensor_of_tflite_tells_its_module(self, tensor: str, path: str) -> None:
        """And it is found as INT8 by the regular expression exactly where the module is."""
        assert module_path(tensor) == path
        assert bool(re.search(TENSORS, f"{tensor};")) == (part_of(path) is not None)

    def test_a_layer_is_found_without_the_containers_that_are_not_called(self) -> None:
        pattern = tensor_pattern("pyramid.body.net.features.1")
        assert re.search(pattern, "x.D/y.P_pyramid/z.StagedBackbone_body/t.InvertedResidual_1/t.Conv2d_0;")
        assert re.search(pattern, "x.D/y.P_pyramid/z.S_body/u.Net_net/t.Sequential_features/t.Block_1;3")
        assert not re.search(pattern, "x.D/y.P_pyramid/z.StagedBackbone_body/t.InvertedResidual_11/t.Conv2d_0;")
        assert not re.search(pattern, "x.D/y.P_pyramid/z.StagedBackbone_body/t.InvertedResidual_2/t.Conv2d_1;")

    def test_each_float_part_has_a_reason(self, pictures: CalibrationSet) -> None:
        record = provenance(pictures, QuantizeConfig(keep_float=("fpn",)), ["fpn.inner_blocks.0", "rpn.0"])
        assert record["float"]["fpn"] != record["float"]["rpn.0"] and all(record["float"].values())
        assert "fpn.inner_blocks.0" not in record["float"]

    @pytest.mark.parametrize(
        ("name", "block"),
        [
            ("pyramid.body.net.stage2.0.branch1.1/Conv_7", "backbone.stage2.0"),
            ("pyramid.body.net.conv1.1/Conv_4", "backbone.conv1.1"),
            ("pyramid.fpn.inner_blocks.2.1/Conv_173", "fpn.inner_blocks.2"),
            ("pyramid.fpn/Add_177", "fpn"),
            ("rpn_head.conv.0.0/Conv_184", "rpn.0"),
            ("mask_head.1.0/Conv_508", "mask_head.1"),
            ("mask_predictor.conv5_mask/ConvTranspose_512", "mask_head.conv5_mask"),
        ],
    )
    def test_a_block_ends_at_the_first_number(self, name: str, block: str) -> None:
        assert block_of(name) == block

    def test_a_part_is_all_its_blocks(self) -> None:
        blocks = ("backbone.stage2.0", "backbone.stage2.1", "backbone.stage20.0", "rpn.0")
        assert expand_blocks(["backbone"], blocks) == set(blocks[:3])
        assert expand_blocks(["backbone.stage2"], blocks) == set(blocks[:2])
        with pytest.raises(UsageError, match=r"no block neck .* there are backbone\.stage2\.0"):
            expand_blocks(["neck"], blocks)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_quantizing_needs_no_torch(suffix: str, float_files: dict[str, Path]) -> None:
    module = TARGETS[format_of("model" + suffix).name].split(":")[0]
    code = f"import sys; sys.modules['torch'] = None; import {module}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_bundle_is_quantized_beside_itself(
    float_files: dict[str, Path], pictures: CalibrationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "hidden"))
    bundle = tmp_path / "b.embundle"
    write_bundle(float_files[".onnx"], bundle, {})
    output = runtimes.ModelFile(bundle).beside("-int8")
    assert quantize(bundle, output, pictures, QuantizeConfig(images=2)) == tmp_path / "b-int8.onnx"
    assert runtimes.read_card(output).precision == "int8"

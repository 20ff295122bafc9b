"""Contents of a model file: parts, integer layers, and conversions from INT8 to float."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_mrcnn.inspection import Operator, count_kinds, list_operators, name_strays
from edge_mrcnn.inspection.summary import find_exits, summarize
from runtimes import MissingFileError, UnknownFormatError
from runtimes.formats import suffixes

onnx = pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")


def layer(name: str, kind: str = "Conv", **fields: object) -> Operator:
    return Operator(kind=kind, name=f"{name}/{kind}", weights=100, **fields)


def wiring(kind: str, *sources: int) -> Operator:
    return Operator(kind=kind, name=f"x_{kind}", is_wiring=True, sources=sources)


CHAIN = name_strays(
    [
        layer("pyramid.body.stem"),
        wiring("QuantizeLinear", 0),
        layer("pyramid.body.stage2", sources=(1,), is_integer=True),
        wiring("DequantizeLinear", 2),
        Operator(kind="LEAKY_RELU", name="pyramid.body.stage2/LEAKY_RELU", sources=(3,)),
        wiring("QuantizeLinear", 4),
        layer("rpn_head.conv", sources=(5,), is_integer=True),
        layer("rpn_head.conv", sources=(5,), is_integer=True),  # the same weights on another level
        wiring("DequantizeLinear", 6, 7),
        layer("rpn_head.cls_logits", sources=(8,)),
        Operator(kind="TopK", name="deploy/TopK_9", sources=(9,)),
    ]
)


def test_layers_and_weights_are_counted_by_part() -> None:
    backbone, rpn, decoding = summarize(CHAIN, {}).parts
    assert (backbone.name, backbone.integer_layers, backbone.float_layers, backbone.operators) == ("backbone", 1, 1, 6)
    assert (rpn.integer_layers, rpn.integer_weights, rpn.float_weights) == (2, 100, 100)
    assert (decoding.name, decoding.operators) == ("decoding", 1)
    assert summarize(CHAIN, {}).integer_share == 0.5


def test_exits_are_found_behind_wiring_and_explained() -> None:
    exits = {place.kind: place for place in find_exits(CHAIN, {"rpn predictors": "few"})}
    assert set(exits) == {"LEAKY_RELU", "Conv"}
    assert (exits["Conv"].count, exits["Conv"].source, exits["Conv"].why) == (2, "rpn", "few")
    assert "no INT8 form" in exits["LEAKY_RELU"].why


def test_a_float_model_has_no_exits() -> None:
    assert find_exits([layer("pyramid.body.stem"), layer("box_head.1", sources=(0,))], {}) == []


def test_what_a_converter_adds_belongs_to_what_feeds_it() -> None:
    assert [operator.part for operator in CHAIN[:6]] == ["backbone"] * 6
    assert name_strays([wiring("Cast")])[0].part == "decoding"


def quantized_onnx(path: Path) -> None:
    """A float convolution, an integer one behind Q/DQ, and a float one that reads it."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    constants = {
        "w": np.zeros((2, 2, 1, 1), np.float32), "wq": np.zeros((2, 2, 1, 1), np.int8),
        "s": np.float32(1), "z": np.uint8(0), "zw": np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "pyramid.body.stem/Conv_0"),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["aq"], "a_QuantizeLinear"),
        helper.make_node("DequantizeLinear", ["aq", "s", "z"], ["ad"], "a_DequantizeLinear"),
        helper.make_node("DequantizeLinear", ["wq", "s", "zw"], ["wd"], "w_DequantizeLinear"),
        helper.make_node("Conv", ["ad", "wd"], ["b"], "pyramid.fpn.inner/Conv_1"),
        helper.make_node("Relu", ["b"], ["c"], "pyramid.fpn.inner/Relu_2"),
        helper.make_node("Conv", ["c", "w"], ["y"], "rpn_head.cls_logits/Conv_3"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, [1, 2, 4, 4])], [value("y", 1, [1, 2, 4, 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)


def test_integer_layers_of_an_onnx_file_are_those_between_q_and_dq(tmp_path: Path) -> None:
    quantized_onnx(tmp_path / "q.onnx")
    operators = list_operators(tmp_path / "q.onnx")
    assert [(o.name, o.weights) for o in operators if o.is_integer] == [("pyramid.fpn.inner/Conv_1", 4)]
    assert [o.is_learned for o in operators if o.kind == "Conv"] == [True] * 3
    (place,) = find_exits(operators, {})
    assert (place.source, place.target, place.kind, place.why) == ("fpn", "fpn", "Relu", "not quantized")


@pytest.mark.parametrize("suffix", suffixes())
def test_every_format_is_read(suffix: str, model_files: dict[str, Path]) -> None:
    operators = list_operators(model_files[suffix])
    assert sum(count_kinds(operators).values()) == len(operators) > 3
    assert all(max(operator.sources, default=0) < len(operators) for operator in operators)
    assert not any(operator.is_integer and operator.is_learned for operator in operators)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormatError, match=r"\.onnx"):
        list_operators(tmp_path / "model.pt")
    with pytest.raises(MissingFileError, match=r"model\.onnx"):
        list_operators(tmp_path / "model.onnx")


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_command_shows_card_parts_and_kinds_in_100_columns(
    suffix: str, model_files: dict[str, Path], cli: Callable
) -> None:
    outcome = cli("inspect", model_files[suffix])
    assert outcome.code == 0
    for word in ("classes", "cat", "96x64", "decoding", "operators by kind", "Slice"):
        assert word in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 100


def test_json_holds_everything(model_files: dict[str, Path], cli: Callable) -> None:
    record = json.loads(cli("inspect", model_files[".onnx"], "--json").out)
    assert record["card"]["classes"][0] == "cat"
    assert record["operators"]["kinds"]["Slice"] == 5
    assert record["size_mb"] > 0 and record["operators"]["exits"] == []


def test_inspect_shows_a_checkpoint(toy_checkpoint: Path, cli: Callable) -> None:
    pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
    shown = cli("inspect", toy_checkpoint)
    assert shown.code == 0
    for word in ("square, disc (2)", "GMAC", "recipe", "image_size_hw", "backbone"):
        assert word in shown.out.replace("\u00a0", " ")
    record = json.loads(cli("inspect", toy_checkpoint, "--json").out)
    assert record["card"]["classes"] == ["square", "disc"]
    assert sum(record["weights"].values()) == record["card"]["parameters"]
    assert record["macs"] > 0 and record["parts"]["backbone"]

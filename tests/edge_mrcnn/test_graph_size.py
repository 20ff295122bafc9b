"""Number of operators and multiply-accumulates of deploy graphs, read from their files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")
pytest.importorskip("litert_torch", reason="pip install 'edge-mrcnn[export]'")

import onnx  # noqa: E402
import openvino  # noqa: E402

from edge_mrcnn.config import ModelConfig, preset  # noqa: E402
from edge_mrcnn.export.cost import Cost, measure_cost  # noqa: E402
from edge_mrcnn.export.graph import MASK_BATCH  # noqa: E402
from edge_mrcnn.inspection import list_operators  # noqa: E402

LARGEST = {"onnx": 368, "openvino": 376, "tflite": 552}
"""Number of operators in the files of the toy model; give the reason here if a change adds some."""

NANO_MACS = {"nano": (862_619_040, 28_550_144), "nano-dense": (1_140_913_440, 28_550_144)}
"""Multiply-accumulates of an empty picture, and of each detection."""


@pytest.fixture(scope="module")
def expected(toy_config: ModelConfig, make_lively: Callable[..., Any]) -> tuple[int, int]:
    """Multiply-accumulates of an empty picture and of each detection, as torch counts them."""
    return split_cost(lambda count: measure_cost(make_lively(toy_config, 2), toy_config.updated(max_detections=count)))


def split_cost(measure: Callable[[int], Cost]) -> tuple[int, int]:
    one, two = (measure(count).macs for count in (1, 2))
    return 2 * one - two, two - one


def split_by_rows(products: Iterable[tuple[list[int | None], int]]) -> tuple[int, int]:
    """Fixed work and work per row from (shape of the result, length of the sums), None being the number of rows."""
    fixed = rows = 0
    for shape, length in products:
        macs = math.prod(dim or 1 for dim in shape) * length
        rows, fixed = (rows + macs, fixed) if None in shape else (rows, fixed + macs)
    return fixed, rows


def onnx_products(model: onnx.ModelProto) -> Iterable[tuple[list[int | None], int]]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {v.name: [d.dim_value or None for d in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv":
            yield shapes[node.output[0]], math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            yield shapes[node.output[0]], shapes[node.input[0]][-1]


def openvino_products(model: openvino.Model) -> Iterable[tuple[list[int | None], int]]:
    def shape_of(port: Any) -> list[int | None]:
        return [d.get_length() if d.is_static else None for d in port.get_partial_shape()]

    for node in model.get_ops():
        if node.get_type_name() == "Convolution":
            yield shape_of(node.output(0)), math.prod(shape_of(node.input(1))[1:])
        elif node.get_type_name() == "MatMul":
            yield shape_of(node.output(0)), shape_of(node.input(0))[-1]


def tflite_macs(path: Path) -> dict[str, int]:
    """Multiply-accumulates of each signature."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    from runtimes.formats.tflite_format import strip_notes

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(strip_notes(path.read_bytes())))
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    found = {}
    for signature in model.signatureDefs:
        graph, total = model.subgraphs[signature.subgraphIndex], 0
        for operator in graph.operators:
            shapes = [list(graph.tensors[i].shape) for i in (operator.outputs[0], *operator.inputs[:2])]
            kind = kinds[model.operatorCodes[operator.opcodeIndex].builtinCode]
            if kind == "CONV_2D":
                total += math.prod(shapes[0]) * math.prod(shapes[2][1:])
            elif kind in ("FULLY_CONNECTED", "BATCH_MATMUL"):
                total += math.prod(shapes[0]) * shapes[1][-1]
        found[signature.signatureKey.decode()] = total
    return found


def test_onnx_file_costs_what_the_model_does(toy_files: dict[str, Path], expected: tuple[int, int]) -> None:
    model = onnx.load(toy_files["onnx"])
    assert split_by_rows(onnx_products(model)) == expected
    assert len(model.graph.node) <= LARGEST["onnx"]


def test_openvino_file_costs_what_the_model_does(toy_files: dict[str, Path], expected: tuple[int, int]) -> None:
    model = openvino.Core().read_model(toy_files["openvino"])
    operators = [node for node in model.get_ops() if node.get_type_name() not in ("Constant", "Parameter", "Result")]
    assert split_by_rows(openvino_products(model)) == expected
    assert len(operators) <= LARGEST["openvino"]


def test_all_shapes_before_the_first_mask_are_known(toy_files: dict[str, Path]) -> None:
    model = openvino.Core().read_model(toy_files["openvino"])
    box_half = [node for node in model.get_ops() if node.get_friendly_name().startswith(("box_head", "box_predictor"))]
    assert box_half and all(node.output(0).get_partial_shape().is_static for node in box_half)


def test_tflite_file_costs_what_the_model_does(small_tflite: Any) -> None:
    config = ModelConfig(image_size_hw=(64, 128), class_agnostic_boxes=False, proposals=16, proposals_per_level=40)
    fixed, row = split_cost(lambda count: measure_cost(small_tflite.model, config.updated(max_detections=count)))
    assert tflite_macs(small_tflite.path) == {"detect": fixed, "mask": MASK_BATCH * row}
    assert len(list_operators(small_tflite.path)) <= LARGEST["tflite"]


@pytest.mark.parametrize("name", NANO_MACS)
def test_presets_cost_what_they_did(name: str) -> None:
    from edge_mrcnn.model.mask_rcnn import build_model

    config = preset(name)
    model = build_model(config, 1)
    assert split_cost(lambda count: measure_cost(model, config.updated(max_detections=count))) == NANO_MACS[name]

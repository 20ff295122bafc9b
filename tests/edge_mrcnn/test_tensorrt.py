"""The check against TensorRT's list of operators names all unsupported nodes, and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")

from edge_mrcnn.export.tensorrt import LARGEST_K, OPERATORS, find_violations  # noqa: E402

helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto


def make_model(*nodes: Any, kind: int = kinds.FLOAT, opset: int = 18, **constants: np.ndarray) -> Any:
    """A model from (8, 5000) x to y."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, [8, 5000])],
        [helper.make_tensor_value_info("y", kinds.UNDEFINED, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)])


def node(kind: str, *inputs: str, output: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], name=f"the {kind}", **attributes)


def problems(model: Any, **options: bool) -> list[str]:
    return [str(violation) for violation in find_violations(model, **options)]


AXES = np.array([1])
SCALE = np.array(0.1, np.float32)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (make_model(node("Det", "x")), "does not support this operator"),
        (make_model(node("Fuse", "x", domain="mine")), "operator of the domain mine"),
        (make_model(node("Relu", "x"), opset=8), "opset 8, expected 9 to 24"),
        (make_model(node("Transpose", "x", perm=[1, 0]), kind=kinds.UINT8), "input 0 is UINT8"),
        (make_model(node("Sin", "x"), kind=kinds.INT64), "input 0 is INT64"),
        (make_model(node("ReduceMax", "x", "x"), kind=kinds.INT64), "its axes are not a constant"),
        (
            make_model(node("QuantizeLinear", "x", "s", "z"), s=SCALE, z=np.array(7, np.int8)),
            "the zero point is not a constant 0",
        ),
        (make_model(node("QuantizeLinear", "x", "s", "z"), s=SCALE, z=np.array(0, np.uint8)), "expected INT8"),
        (make_model(node("QuantizeLinear", "x", "s"), s=SCALE), "quantizes to UINT8"),
        (
            make_model(node("DequantizeLinear", "x", "s", "z"), kind=kinds.INT32, s=SCALE, z=np.array(0, np.int32)),
            "input 0 is INT32",
        ),
    ],
)
def test_violation_is_named_with_its_node(model: Any, complaint: str) -> None:
    found = problems(model, static=False)
    assert any(complaint in problem for problem in found)
    assert all(problem.startswith(("the ", "graph:")) for problem in found)


@pytest.mark.parametrize(("k", "count"), [(LARGEST_K, 0), (LARGEST_K + 1, 1)])
def test_topk_is_bounded(k: int, count: int) -> None:
    topk = helper.make_node("TopK", ["x", "k"], ["y", "rows"], name="best")
    assert len(problems(make_model(topk, k=np.array([k])))) == count


def test_shapes_that_depend_on_the_data_are_refused_where_static_is_meant() -> None:
    model = make_model(node("NonZero", "x"))
    assert problems(model) == ["the NonZero (NonZero): the shape of y depends on the data"]
    assert problems(model, static=False) == []


@pytest.mark.parametrize(
    "model",
    [
        make_model(node("Cast", "x", to=kinds.FLOAT), kind=kinds.UINT8),
        make_model(node("ReduceMax", "x", "axes"), axes=AXES),
        make_model(node("Gather", "x", "rows"), rows=np.array([1, 2])),
        make_model(
            node("QuantizeLinear", "x", "s", "z", output="q"),
            node("DequantizeLinear", "q", "s", "z"), s=SCALE, z=np.array(0, np.int8),
        ),
        make_model(
            node("Constant", output="axes", value=numpy_helper.from_array(AXES)), node("ReduceMax", "x", "axes"),
        ),
    ],
)  # fmt: skip
def test_what_tensorrt_takes_is_not_complained_about(model: Any) -> None:
    assert problems(model) == []


def test_table_knows_onnxs_names_only() -> None:
    assert set(OPERATORS) <= {schema.name for schema in onnx.defs.get_all_schemas_with_history()}

"""How ONNX says our operators: NonMaxSuppression and RoiAlign, each once.

https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html, https://onnx.ai/onnx/operators/onnx__RoiAlign.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import ir
from onnxscript import opset18 as op

Value = Any
"""A tensor while a graph is being built; onnxscript gives it no public type."""


def nms(boxes: Value, scores: Value, iou_threshold: float, limit: int) -> Sequence[Value]:
    """Ranks stand in for scores, so that ties keep the order of the rows on every runtime."""
    rows = op.Squeeze(op.Shape(scores), op.Constant(value_ints=[0]))
    descending = op.Cast(op.Range(rows, _int(0), _int(-1)), to=1)
    ranks = op.Mul(descending, op.Cast(op.Greater(scores, _float(0.0)), to=1))
    selected = op.NonMaxSuppression(
        op.Unsqueeze(boxes, op.Constant(value_ints=[0])),
        op.Unsqueeze(ranks, op.Constant(value_ints=[0, 1])),
        op.Constant(value_ints=[limit]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[0.5]),
    )
    kept = op.Slice(
        op.Squeeze(op.Gather(selected, op.Constant(value_ints=[2]), axis=1), op.Constant(value_ints=[1])),
        op.Constant(value_ints=[0]), op.Constant(value_ints=[limit]),
    )  # fmt: skip
    count = op.Shape(kept)
    missing = op.Sub(op.Constant(value_ints=[limit]), count)
    padding = op.Concat(op.Constant(value_ints=[0]), missing, axis=0)
    return op.Pad(kept, padding), op.Squeeze(count, op.Constant(value_ints=[0]))


def multiscale_roi_align(
    maps: Sequence[Value],
    boxes: Value,
    scales: Sequence[float],
    bounds: Sequence[float],
    size: int,
    sampling_ratio: int,
) -> Value:
    """One RoiAlign for all levels: the maps are a batch, and a box's level is its batch index.

    The coarser maps are padded to the size of the finest by repeating their last row and column, which is
    what clamping at the border means, so a sample never sees anything else than its own map.
    """
    if len(maps) == 1:
        rows = op.Shape(boxes, end=1)
        return _roi_align(maps[0], boxes, op.Expand(_int(0), rows), scales[0], size, sampling_ratio)
    canvas = op.Concat(*_same_size(maps), axis=0)
    low, high = (op.Gather(boxes, op.Constant(value_ints=pair), axis=1) for pair in ([0, 1], [2, 3]))
    area = op.ReduceProd(op.Sub(high, low), op.Constant(value_ints=[1]), keepdims=1)
    reached = op.GreaterOrEqual(area, op.Constant(value=_tensor([list(bounds)])))
    levels = op.ReduceSum(op.Cast(reached, to=7), op.Constant(value_ints=[1]), keepdims=0)
    scale = op.Unsqueeze(op.Gather(op.Constant(value_floats=list(scales)), levels), op.Constant(value_ints=[1]))
    return _roi_align(canvas, op.Mul(boxes, scale), levels, 1.0, size, sampling_ratio)


def _roi_align(features: Value, boxes: Value, batch: Value, scale: float, size: int, sampling_ratio: int) -> Value:
    return op.RoiAlign(
        features, boxes, batch,
        coordinate_transformation_mode="output_half_pixel", mode="avg",
        output_height=size, output_width=size, sampling_ratio=sampling_ratio, spatial_scale=scale,
    )  # fmt: skip


def live_rows(boxes: Value, scores: Value, labels: Value, count: Value) -> tuple[Value, Value, Value]:
    """Slices of dynamic length."""
    start, end = op.Constant(value_ints=[0]), op.Unsqueeze(count, op.Constant(value_ints=[0]))
    return op.Slice(boxes, start, end), op.Slice(scores, start, end), op.Slice(labels, start, end)


def _same_size(maps: Sequence[Any]) -> list[Any]:
    height, width = maps[0].shape[2], maps[0].shape[3]
    padded = [maps[0]]
    for level in maps[1:]:
        below, right = height - level.shape[2], width - level.shape[3]
        padded.append(op.Pad(level, op.Constant(value_ints=[0, 0, 0, 0, 0, 0, below, right]), mode="edge"))
    return padded


def _int(value: int) -> Any:
    return op.Constant(value_int=value)


def _float(value: float) -> Any:
    return op.Constant(value_float=value)


def _tensor(values: Any) -> Any:
    return ir.serde.serialize_tensor(ir.tensor(values, dtype=ir.DataType.FLOAT))


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Our operators and their ONNX form, for `torch.onnx.export(custom_translation_table=...)`."""
    ours = torch.ops.edge_mrcnn
    return {
        ours.nms.default: nms,
        ours.multiscale_roi_align.default: multiscale_roi_align,
        ours.live_rows.default: live_rows,
    }

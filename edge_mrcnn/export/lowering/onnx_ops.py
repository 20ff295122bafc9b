"""How ONNX says our operators: NonMaxSuppression and RoiAlign, each once.

https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html, https://onnx.ai/onnx/operators/onnx__RoiAlign.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from onnxscript import ir
from onnxscript import opset18 as op

from edge_mrcnn.export.operators import next_above

Value = Any
"""A tensor while a graph is being built; onnxscript gives it no public type."""

FLOAT, INT64 = 1, 7
"""onnx.TensorProto's numbers of two types."""

CHAIN = 24
"""Links of a chain of overlaps, each box overlapping the next, that `static_nms` resolves exactly."""


def nms(boxes: Value, scores: Value, iou_threshold: float, limit: int) -> Sequence[Value]:
    """Ranks stand in for scores, so that ties keep the order of the rows on every runtime."""
    rows = op.Squeeze(op.Shape(scores), op.Constant(value_ints=[0]))
    descending = op.Cast(op.Range(rows, _int(0), _int(-1)), to=FLOAT)
    ranks = op.Mul(descending, op.Cast(op.Greater(scores, _float(0.0)), to=FLOAT))
    selected = op.NonMaxSuppression(
        op.Unsqueeze(boxes, op.Constant(value_ints=[0])),
        op.Unsqueeze(ranks, op.Constant(value_ints=[0, 1])),
        op.Constant(value_ints=[limit]),
        op.Constant(value_floats=[last_kept(iou_threshold)]),
        op.Constant(value_floats=[0.5]),
    )
    kept = op.Slice(
        op.Squeeze(op.Gather(selected, op.Constant(value_ints=[2]), axis=1), op.Constant(value_ints=[1])),
        op.Constant(value_ints=[0]), op.Constant(value_ints=[limit]),
    )  # fmt: skip
    # Padding that always reaches beyond the limit, cut to it: so runtimes know the length, and plan all that follows.
    padded = op.Slice(op.Concat(kept, _ints(*[0] * limit), axis=0), _ints(0), _ints(limit))
    return padded, op.Squeeze(op.Shape(kept), _ints(0))


def last_kept(threshold: float) -> float:
    """The largest float32 IoU that torchvision, which compares with a double, does not suppress."""
    return float(np.nextafter(np.float32(next_above(threshold)), np.float32(0)))


def static_nms(boxes: Value, scores: Value, iou_threshold: float, limit: int) -> Sequence[Value]:
    """NMS without a shape that depends on the data, by matrix products.

    A box is kept if no kept box before it overlaps it. Repeating that rule from "all are kept" makes it true of one
    more link of every chain of overlaps each time, so the result is exact where no chain has more than `CHAIN` links.
    """
    rows = int(scores.shape[0])
    first_to_last = np.arange(rows, dtype=np.float32)
    earlier = op.Less(_tensor(first_to_last[:, None]), _tensor(first_to_last[None]))
    overlapping = op.GreaterOrEqual(_iou(boxes), _float(next_above(iou_threshold)))
    suppresses = op.Cast(op.And(overlapping, earlier), to=FLOAT)
    alive = op.Cast(op.Greater(scores, _float(0.0)), to=FLOAT)
    kept = alive
    for _ in range(CHAIN):
        kept = op.Mul(alive, op.Relu(op.Sub(_float(1.0), op.MatMul(kept, suppresses))))
    ranks, best = op.TopK(op.Mul(kept, _tensor(rows - first_to_last)), _ints(min(limit, rows)))
    live = op.Cast(op.Greater(ranks, _float(0.0)), to=INT64)
    padding = [_ints(*[0] * (limit - rows))] if limit > rows else []
    return op.Concat(op.Mul(best, live), *padding, axis=0), op.ReduceSum(live, keepdims=0)


def _iou(boxes: Value) -> Value:
    """(R, 4) to (R, R); 0 where neither box has area."""
    x, y = (_extent(boxes, axis) for axis in (0, 1))
    inter = op.Mul(_overlap(*x), _overlap(*y))
    area = op.Mul(op.Sub(x[1], x[0]), op.Sub(y[1], y[0]))
    union = op.Sub(op.Add(area, op.Transpose(area, perm=[1, 0])), inter)
    return op.Div(inter, op.Max(union, _float(1e-12)))


def _extent(boxes: Value, axis: int) -> tuple[Value, Value]:
    """Where boxes begin and end along an axis: (R, 1) each."""
    return op.Gather(boxes, _ints(axis), axis=1), op.Gather(boxes, _ints(axis + 2), axis=1)


def _overlap(start: Value, end: Value) -> Value:
    """(R, 1) and (R, 1) to (R, R): the length that two intervals share."""
    others_start, others_end = (op.Transpose(value, perm=[1, 0]) for value in (start, end))
    return op.Relu(op.Sub(op.Min(end, others_end), op.Max(start, others_start)))


def multiscale_roi_align(
    maps: Sequence[Value], boxes: Value, scales: Sequence[float], bounds: Sequence[float], size: int,
    sampling_ratio: int, images: Value | None = None, aligned: bool = False,
) -> Value:  # fmt: skip
    """One RoiAlign for all levels and images: their maps are one batch, in which a box has its index.

    The coarser maps are padded above and on the left to the size of the finest, and boxes move with them. So the
    right and lower borders of all maps coincide, behind which a sample counts as 0; before the left and upper ones
    no box inside the image has any. Aligned samples reach half a cell before them, where a map counts as its edge:
    so does the padding.
    """
    if len(maps) == 1:
        index = op.Expand(_int(0), op.Shape(boxes, end=1)) if images is None else images
        return _roi_align(maps[0], boxes, index, scales[0], size, sampling_ratio, aligned)
    canvas = op.Concat(*_same_size(maps, by_edge=aligned), axis=0)
    low, high = (op.Gather(boxes, op.Constant(value_ints=pair), axis=1) for pair in ([0, 1], [2, 3]))
    area = op.ReduceProd(op.Sub(high, low), _ints(1), keepdims=1)
    reached = op.GreaterOrEqual(area, _tensor([list(bounds)]))
    levels = op.ReduceSum(op.Cast(reached, to=INT64), _ints(1), keepdims=0)
    scale = op.Unsqueeze(op.Gather(op.Constant(value_floats=list(scales)), levels), _ints(1))
    index = levels if images is None else op.Add(op.Mul(levels, _int(int(maps[0].shape[0]))), images)
    shift = op.Gather(_tensor([2 * _missing(maps, level)[::-1] for level in maps]), levels)
    return _roi_align(canvas, op.Add(op.Mul(boxes, scale), shift), index, 1.0, size, sampling_ratio, aligned)


def _roi_align(
    features: Value, boxes: Value, index: Value, scale: float, size: int, sampling_ratio: int, aligned: bool
) -> Value:
    return op.RoiAlign(
        features, boxes, index,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel", mode="avg",
        output_height=size, output_width=size, sampling_ratio=sampling_ratio, spatial_scale=scale,
    )  # fmt: skip


def live_rows(scores: Value) -> Value:
    """A list of dynamic length."""
    return op.Squeeze(op.NonZero(op.Greater(scores, _float(0.0))), _ints(0))


def _same_size(maps: Sequence[Any], *, by_edge: bool) -> list[Any]:
    """Maps padded above and on the left, by 0 or by their edge."""
    mode = {"mode": "edge"} if by_edge else {}
    padded = [maps[0]]
    for level in maps[1:]:
        rows, columns = _missing(maps, level)
        padded.append(op.Pad(level, _ints(0, 0, rows, columns, 0, 0, 0, 0), **mode))
    return padded


def _missing(maps: Sequence[Any], level: Any) -> tuple[int, int]:
    """Rows and columns that a level has less than the finest one."""
    return maps[0].shape[2] - level.shape[2], maps[0].shape[3] - level.shape[3]


def _int(value: int) -> Value:
    return op.Constant(value_int=value)


def _ints(*values: int) -> Value:
    return op.Constant(value_ints=list(values))


def _float(value: float) -> Value:
    return op.Constant(value_float=value)


def _tensor(values: Any) -> Value:
    return op.Constant(value=ir.serde.serialize_tensor(ir.tensor(values, dtype=ir.DataType.FLOAT)))


def translations(static: bool) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Our operators and their ONNX form, for `torch.onnx.export(custom_translation_table=...)`.

    Args:
        static: Let no shape depend on the data.
    """
    ours = torch.ops.edge_mrcnn
    return {
        ours.nms.default: static_nms if static else nms,
        ours.multiscale_roi_align.default: multiscale_roi_align,
        ours.live_rows.default: live_rows,
    }

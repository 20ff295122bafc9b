"""Our operators in ONNX: NonMaxSuppression and RoiAlign, each once.

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
"""A tensor of a graph under construction; onnxscript has no public type for it."""

FLOAT, INT64 = 1, 7
"""onnx.TensorProto's numbers of two types."""

CHAIN = 24
"""Length of a chain of overlaps, each box overlapping the next, that `static_nms` resolves exactly."""


def nms(boxes: Value, scores: Value, iou_threshold: float, limit: int) -> Sequence[Value]:
    """Ranks replace scores, so that ties keep the order of the rows on every runtime."""
    rows = op.Squeeze(op.Shape(scores), _ints(0))
    descending = op.Cast(op.Range(rows, _int(0), _int(-1)), to=FLOAT)
    is_live = op.Cast(op.Greater(scores, _float(0.0)), to=FLOAT)
    ranks = op.Mul(descending, is_live)
    # The operator expects a batch of images and, for scores, classes.
    selected = op.NonMaxSuppression(
        op.Unsqueeze(boxes, _ints(0)),
        op.Unsqueeze(ranks, _ints(0, 1)),
        _ints(limit),
        _floats(last_kept(iou_threshold)),
        _floats(0.5),
    )
    # It returns (image, class, row) of each kept box.
    kept_rows = op.Squeeze(op.Gather(selected, _ints(2), axis=1), _ints(1))
    kept = op.Slice(kept_rows, _ints(0), _ints(limit))
    # Padded beyond the limit and cut to it, so that runtimes know the length and can plan all later memory.
    padding = _ints(*[0] * limit)
    padded = op.Slice(op.Concat(kept, padding, axis=0), _ints(0), _ints(limit))
    count = op.Squeeze(op.Shape(kept), _ints(0))
    return padded, count


def last_kept(threshold: float) -> float:
    """The largest float32 IoU that torchvision, which compares in double, does not suppress."""
    first_suppressed = np.float32(next_above(threshold))
    return float(np.nextafter(first_suppressed, np.float32(0)))


def static_nms(boxes: Value, scores: Value, iou_threshold: float, limit: int) -> Sequence[Value]:
    """NMS without data-dependent shapes, by matrix products.

    A box is kept if no kept box before it overlaps it. Each repetition of this rule, starting with all boxes kept,
    makes it true for one more link of every chain of overlaps, so the result is exact if no chain has more than `CHAIN`
    links.
    """
    rows = int(scores.shape[0])
    first_to_last = np.arange(rows, dtype=np.float32)
    earlier = op.Less(_tensor(first_to_last[:, None]), _tensor(first_to_last[None]))
    overlapping = op.GreaterOrEqual(_iou(boxes), _float(next_above(iou_threshold)))
    suppresses = op.Cast(op.And(overlapping, earlier), to=FLOAT)
    alive = op.Cast(op.Greater(scores, _float(0.0)), to=FLOAT)
    kept = alive
    for _ in range(CHAIN):
        one = _float(1.0)
        suppressors = op.MatMul(kept, suppresses)
        kept = op.Mul(alive, op.Relu(op.Sub(one, suppressors)))
    # The first rows have the highest ranks; rows that are not kept have rank 0.
    rank_of_kept = op.Mul(kept, _tensor(rows - first_to_last))
    ranks, best = op.TopK(rank_of_kept, _ints(min(limit, rows)))
    live = op.Cast(op.Greater(ranks, _float(0.0)), to=INT64)
    padding = [_ints(*[0] * (limit - rows))] if limit > rows else []
    padded = op.Concat(op.Mul(best, live), *padding, axis=0)
    count = op.ReduceSum(live, keepdims=0)
    return padded, count


def _iou(boxes: Value) -> Value:
    """(R, 4) to (R, R); 0 where neither box has area."""
    x0, x1 = _extent(boxes, 0)
    y0, y1 = _extent(boxes, 1)
    inter = op.Mul(_overlap(x0, x1), _overlap(y0, y1))
    area = op.Mul(op.Sub(x1, x0), op.Sub(y1, y0))
    others_area = op.Transpose(area, perm=[1, 0])
    union = op.Sub(op.Add(area, others_area), inter)
    return op.Div(inter, op.Max(union, _float(1e-12)))


def _extent(boxes: Value, axis: int) -> tuple[Value, Value]:
    """Where boxes begin and end along an axis: (R, 1) each."""
    return op.Gather(boxes, _ints(axis), axis=1), op.Gather(boxes, _ints(axis + 2), axis=1)


def _overlap(start: Value, end: Value) -> Value:
    """(R, 1) and (R, 1) to (R, R): the length that two intervals share."""
    others_start = op.Transpose(start, perm=[1, 0])
    others_end = op.Transpose(end, perm=[1, 0])
    first_end = op.Min(end, others_end)
    last_start = op.Max(start, others_start)
    return op.Relu(op.Sub(first_end, last_start))


def multiscale_roi_align(
    maps: Sequence[Value], boxes: Value, scales: Sequence[float], bounds: Sequence[float], size: int,
    sampling_ratio: int, images: Value | None = None, aligned: bool = False,
) -> Value:  # fmt: skip
    """One RoiAlign for all levels and images: their maps are one batch, and each box has an index in it.

    The coarser maps are padded above and on the left to the size of the finest, and boxes are shifted with them. So the
    right and lower borders of all maps coincide, beyond which a sample counts as 0; no box inside the image has samples
    beyond the left and upper ones. Aligned samples extend half a cell beyond those, where a map counts as its edge
    value, and so does the padding.
    """
    if len(maps) == 1:
        index = op.Expand(_int(0), op.Shape(boxes, end=1)) if images is None else images
        return _roi_align(maps[0], boxes, index, scales[0], size, sampling_ratio, aligned)
    canvas = op.Concat(*_same_size(maps, by_edge=aligned), axis=0)
    levels = _levels_of(boxes, bounds)
    scale = op.Unsqueeze(op.Gather(_floats(*scales), levels), _ints(1))
    # The maps of all images come level by level.
    index = levels
    if images is not None:
        first_of_level = op.Mul(levels, _int(int(maps[0].shape[0])))
        index = op.Add(first_of_level, images)
    shifts = []
    for level in maps:
        rows, columns = _missing(maps, level)
        shifts.append((columns, rows, columns, rows))
    shift = op.Gather(_tensor(shifts), levels)
    moved = op.Add(op.Mul(boxes, scale), shift)
    return _roi_align(canvas, moved, index, 1.0, size, sampling_ratio, aligned)


def _levels_of(boxes: Value, bounds: Sequence[float]) -> Value:
    """(K,) int64, the level of each box: the number of bounds that its area reaches."""
    low = op.Gather(boxes, _ints(0, 1), axis=1)
    high = op.Gather(boxes, _ints(2, 3), axis=1)
    area = op.ReduceProd(op.Sub(high, low), _ints(1), keepdims=1)
    reached = op.GreaterOrEqual(area, _tensor([list(bounds)]))
    return op.ReduceSum(op.Cast(reached, to=INT64), _ints(1), keepdims=0)


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
    """Maps padded above and on the left, with 0 or with their edge values."""
    mode = {"mode": "edge"} if by_edge else {}
    padded = [maps[0]]
    for level in maps[1:]:
        rows, columns = _missing(maps, level)
        padded.append(op.Pad(level, _ints(0, 0, rows, columns, 0, 0, 0, 0), **mode))
    return padded


def _missing(maps: Sequence[Any], level: Any) -> tuple[int, int]:
    """Number of rows and columns that a level lacks compared with the finest one."""
    finest = maps[0]
    return finest.shape[2] - level.shape[2], finest.shape[3] - level.shape[3]


def _int(value: int) -> Value:
    return op.Constant(value_int=value)


def _ints(*values: int) -> Value:
    return op.Constant(value_ints=list(values))


def _float(value: float) -> Value:
    return op.Constant(value_float=value)


def _floats(*values: float) -> Value:
    return op.Constant(value_floats=list(values))


def _tensor(values: Any) -> Value:
    tensor = ir.tensor(values, dtype=ir.DataType.FLOAT)
    return op.Constant(value=ir.serde.serialize_tensor(tensor))


def translations(static: bool) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Our operators -> their ONNX form, for `torch.onnx.export(custom_translation_table=...)`.

    Args:
        static: Use only shapes that do not depend on the data.
    """
    ours = torch.ops.edge_mrcnn
    return {
        ours.nms.default: static_nms if static else nms,
        ours.multiscale_roi_align.default: multiscale_roi_align,
        ours.live_rows.default: live_rows,
    }

"""How TFLite says our operators, with nothing but its builtin ones.

NMS is NON_MAX_SUPPRESSION_V4. RoIAlign is two products with interpolation matrices, since TFLite has no operator for
it: bilinear sampling and averaging are linear and separable, so a bin is (rows of weights) x map x (columns of
weights). Row selection is GATHER, where litert-torch would check each index against the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from litert_converter.mlir import ir
from litert_converter.mlir.dialects import stablehlo
from litert_torch.backend.lowerings import lower, utils
from litert_torch.fx_infra import decomp
from torch import Tensor

from edge_mrcnn.export import operators

torch.library.define(
    "edge_mrcnn::non_max_suppression_v4", "(Tensor boxes, Tensor ranks, float threshold, int limit) -> (Tensor, Tensor)"
)
torch.library.define("edge_mrcnn::gather", "(Tensor x, int axis, Tensor rows) -> Tensor")


@torch.library.register_fake("edge_mrcnn::non_max_suppression_v4")
def _(boxes: Tensor, ranks: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    return boxes.new_empty(limit, dtype=torch.int32), boxes.new_empty((), dtype=torch.int32)


@torch.library.register_fake("edge_mrcnn::gather")
def _(x: Tensor, axis: int, rows: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :])


@contextmanager
def lowered_operators() -> Iterator[None]:
    """While it lasts, litert-torch knows our operators; other conversions are not touched."""
    forms = {
        torch.ops.edge_mrcnn.nms.default: nms,
        torch.ops.edge_mrcnn.multiscale_roi_align.default: multiscale_roi_align,
        torch.ops.aten.index_select.default: select,
    }
    for operator, form in forms.items():
        decomp.add_pre_convert_decomp(operator, form)
    try:
        yield
    finally:
        for operator in forms:
            decomp.remove_pre_lower_decomp(operator)


def select(x: Tensor, axis: int, rows: Tensor) -> Tensor:
    """`torch.index_select` by GATHER."""
    selected: Tensor = torch.ops.edge_mrcnn.gather(x, axis, rows.int())
    return selected


@lower(torch.ops.edge_mrcnn.gather.default)
def _lower_gather(context: Any, x: ir.Value, axis: int, rows: ir.Value) -> Any:
    axis, batch_dims = (ir.IntegerAttr.get(ir.IntegerType.get_signless(32), value) for value in (axis, 0))
    return _builtin(context, "gather", [x, rows], axis=axis, batch_dims=batch_dims)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    """`edge_mrcnn::nms` by NON_MAX_SUPPRESSION_V4.

    Ranks stand in for scores, so that ties keep the order of the rows. A box without area takes no part: TFLite
    would select it over and over. It suppresses at an IoU of at least the threshold, torchvision above it.
    """
    ranks = torch.arange(len(scores), 0, -1, dtype=torch.float32)
    has_area = (boxes[:, 2:] - boxes[:, :2]).amin(1) > 0
    ranks = ranks * ((scores > 0) & has_area).float()
    kept, count = torch.ops.edge_mrcnn.non_max_suppression_v4(boxes, ranks, operators.next_above(iou_threshold), limit)
    return kept.long(), count.long()


@lower(torch.ops.edge_mrcnn.non_max_suppression_v4.default)
def _lower_nms(context: Any, boxes: ir.Value, ranks: ir.Value, threshold: float, limit: int) -> Any:
    f32, i32 = ir.F32Type.get(), ir.IntegerType.get_signless(32)
    constants = [utils.splat(limit, i32), utils.splat(threshold, f32), utils.splat(0.5, f32)]
    return _builtin(context, "non_max_suppression_v4", [boxes, ranks, *constants])


def _builtin(context: Any, name: str, operands: list[ir.Value], **attributes: ir.Attribute) -> Any:
    """One of https://www.tensorflow.org/mlir/tfl_ops, in the form in which litert-torch carries them."""
    return stablehlo.custom_call(
        result=utils.node_meta_to_ir_types(context.node),
        inputs=operands,
        call_target_name=ir.StringAttr.get(f"tfl.{name}"),
        has_side_effect=ir.BoolAttr.get(False),
        backend_config=ir.StringAttr.get(str(ir.DictAttr.get(attributes))),
    )


def multiscale_roi_align(
    maps: list[Tensor], boxes: Tensor, scales: list[float], bounds: list[float], size: int, sampling_ratio: int,
    images: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """`edge_mrcnn::multiscale_roi_align` of one image by matrix products.

    Each box is pooled from every level, with weights of 0 on all levels but its own.
    """
    assert images is None  # TFLite files take one image at a time
    on_level = level_weights(boxes, bounds)
    pooled = [
        _pool(features, boxes * scale, weight, size, sampling_ratio)
        for features, scale, weight in zip(maps, scales, on_level, strict=True)
    ]
    return torch.stack(pooled).sum(0) if len(pooled) > 1 else pooled[0]


def level_weights(boxes: Tensor, bounds: list[float]) -> list[Tensor]:
    """For each level, (K,) float32: 1 where a box belongs to it, else 0."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    above = [_is_above(area, np.nextafter(np.float32(bound), np.float32(0))) for bound in bounds]
    reached = [torch.ones_like(area), *above, torch.zeros_like(area)]
    return [low - high for low, high in zip(reached, reached[1:], strict=False)]


def _is_above(x: Tensor, limit: float | np.floating[Any]) -> Tensor:
    """1.0 where x > limit, else 0.0.

    Arithmetic instead of a comparison, which would cut XNNPACK's part of the graph in two; exact, since the slope
    takes the float32 after the limit to 1 or more.
    """
    low = np.float32(limit)
    slope = 1 / float(np.nextafter(low, np.float32(np.inf)) - low)
    return 1 - torch.relu(1 - torch.relu((x - float(low)) * slope))


def _pool(features: Tensor, boxes: Tensor, weight: Tensor, size: int, ratio: int) -> Tensor:
    """RoIAlign of one level, times a weight per box.

    Args:
        features: (1, C, H, W) float32.
        boxes: (K, 4) float32 xyxy in cells of the map.
        weight: (K,) float32.
        size: Bins per side.
        ratio: Samples per bin and axis.

    Returns:
        (K, C, size, size) float32.
    """
    channels, height, width = features.shape[1:]
    rows = axis_weights(boxes[:, 1], boxes[:, 3], height, size, ratio) * weight[:, None, None]
    columns = axis_weights(boxes[:, 0], boxes[:, 2], width, size, ratio)
    # In both products the operand on the right is the smaller one: XNNPACK repacks that one on each run.
    # Not features[0]: litert-torch 0.10 loses the transposition of that where the map has as many channels as columns.
    lines = rows.reshape(-1, height) @ features.permute(0, 2, 1, 3).reshape(height, channels * width)
    bins = torch.bmm(lines.reshape(-1, size * channels, width), columns.transpose(1, 2))
    return bins.reshape(-1, size, channels, size).permute(0, 2, 1, 3)


def axis_weights(start: Tensor, end: Tensor, cells: int, size: int, ratio: int) -> Tensor:
    """What each cell of one axis gives to each bin (Mask R-CNN, arXiv 1703.06870, section 3; aligned=False).

    Args:
        start: (K,) float32, where the boxes begin, in cells.
        end: (K,) float32, where they end.
        cells: Length of the map.
        size: Number of bins.
        ratio: Samples per bin.

    Returns:
        (K, size, cells) float32, the mean over a bin's samples. A box is at least one cell long; a sample
        more than one cell before the map or behind its end counts as 0.
    """
    length = (end - start).clamp(min=1.0)[:, None] / size
    offsets = torch.arange(size, dtype=torch.float32)
    grid = torch.arange(cells, dtype=torch.float32)
    total = []
    for sample in range(ratio):
        x = start[:, None] + length * offsets + length * ((sample + 0.5) / ratio)
        outside = _is_above(x, cells) + _is_above(-x, 1)
        hat = torch.relu(1 - (x.clamp(0.0, cells - 1.0)[..., None] - grid).abs())
        total.append(hat * ((1 - outside) / ratio)[..., None])
    return sum(total[1:], total[0])

"""Our operators in TFLite, with builtin operators only.

NMS is NON_MAX_SUPPRESSION_V4. RoIAlign, for which TFLite has no operator, is a GATHER per cell of a bin, times its
weight. Row selection is GATHER as well, because litert-torch would check each index against the bounds.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
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

STEEP = 1e30
"""Factor that makes every positive difference of coordinates at least 1."""

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
    """Context in which litert-torch knows our operators; other conversions are unaffected."""
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
    i32 = ir.IntegerType.get_signless(32)
    settings = {"axis": ir.IntegerAttr.get(i32, axis), "batch_dims": ir.IntegerAttr.get(i32, 0)}
    return _builtin(context, "gather", [x, rows], **settings)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    """`edge_mrcnn::nms` by NON_MAX_SUPPRESSION_V4.

    Ranks replace scores, so that ties keep the order of the rows. Boxes without area are excluded: TFLite would select
    them repeatedly. It suppresses at an IoU of at least the threshold, torchvision above it.
    """
    ranks = torch.arange(len(scores), 0, -1, dtype=torch.float32)
    has_area = (boxes[:, 2:] - boxes[:, :2]).amin(1) > 0
    takes_part = (scores > 0) & has_area
    ranks = ranks * takes_part.float()
    first_suppressed = operators.next_above(iou_threshold)
    kept, count = torch.ops.edge_mrcnn.non_max_suppression_v4(boxes, ranks, first_suppressed, limit)
    return kept.long(), count.long()


@lower(torch.ops.edge_mrcnn.non_max_suppression_v4.default)
def _lower_nms(context: Any, boxes: ir.Value, ranks: ir.Value, threshold: float, limit: int) -> Any:
    f32, i32 = ir.F32Type.get(), ir.IntegerType.get_signless(32)
    constants = [utils.splat(limit, i32), utils.splat(threshold, f32), utils.splat(0.5, f32)]
    return _builtin(context, "non_max_suppression_v4", [boxes, ranks, *constants])


def _builtin(context: Any, name: str, operands: list[ir.Value], **attributes: ir.Attribute) -> Any:
    """An operator of https://www.tensorflow.org/mlir/tfl_ops, in litert-torch's form."""
    return stablehlo.custom_call(
        result=utils.node_meta_to_ir_types(context.node),
        inputs=operands,
        call_target_name=ir.StringAttr.get(f"tfl.{name}"),
        has_side_effect=ir.BoolAttr.get(False),
        backend_config=ir.StringAttr.get(str(ir.DictAttr.get(attributes))),
    )


def multiscale_roi_align(
    maps: list[Tensor], boxes: Tensor, scales: list[float], bounds: list[float], size: int, sampling_ratio: int,
    images: Tensor | None = None, aligned: bool = False,
) -> Tensor:  # fmt: skip
    """`edge_mrcnn::multiscale_roi_align` of one image by gathers.

    Bilinear sampling and averaging make a bin the weighted sum of (2 x ratio)² cells. The cells of all levels are in
    one table, so a box's level is an offset into it. Each of these taps is a separate gather, because its result is
    still in the cache when it is added.
    """
    assert images is None  # TFLite files take one image at a time
    assert sampling_ratio > 0  # an adaptive number of samples would be a shape that depends on the data
    on_level = level_weights(boxes, bounds)
    channels = maps[0].shape[1]
    heights = [features.shape[2] for features in maps]
    widths = [features.shape[3] for features in maps]
    # Start of the cells of each level in the table.
    starts = [0]
    for level_height, level_width in zip(heights, widths, strict=True):
        starts.append(starts[-1] + level_height * level_width)
    height = _of_level(on_level, heights)
    width = _of_level(on_level, widths)
    start = _of_level(on_level, starts)
    scale = _of_level(on_level, scales)
    x0, y0, x1, y1 = (boxes * scale).split(1, 1)
    columns = axis_taps(x0, x1, width, size, sampling_ratio, aligned)
    rows = axis_taps(y0, y1, height, size, sampling_ratio, aligned)
    cells = torch.cat([features.permute(0, 2, 3, 1).reshape(-1, channels) for features in maps])
    bins = None
    for (row, row_weight), (column, column_weight) in itertools.product(rows, columns):
        place = (start + row * width)[:, :, None] + column[:, None]
        values = select(cells, 0, place.reshape(-1))
        weight = row_weight[:, :, None] * column_weight[:, None]
        tap = values * weight.reshape(-1, 1)
        bins = tap if bins is None else bins + tap
    assert bins is not None
    return bins.reshape(-1, size, size, channels).permute(0, 3, 1, 2)


def level_weights(boxes: Tensor, bounds: list[float]) -> list[Tensor]:
    """For each level, (K,) float32: 1 where a box belongs to it, else 0."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    above = []
    for bound in bounds:
        last_below = np.nextafter(np.float32(bound), np.float32(0))
        above.append(_is_above(area, last_below))
    # Every box is above the lower bound of the first level; no box is above the upper bound of the last one.
    reached = [torch.ones_like(area), *above, torch.zeros_like(area)]
    return [this - next_one for this, next_one in itertools.pairwise(reached)]


def _of_level(on_level: list[Tensor], values: Sequence[float]) -> Tensor:
    """(K, 1) float32: for each box the value of its level."""
    parts = [on * float(value) for on, value in zip(on_level, values, strict=False)]
    chosen = functools.reduce(torch.add, parts)
    return chosen[:, None]


def _is_above(x: Tensor, limit: float | np.floating[Any]) -> Tensor:
    """1.0 where x > limit, else 0.0.

    Arithmetic instead of a comparison, which would split XNNPACK's part of the graph; exact, because the factor makes
    the float32 after the limit at least 1.
    """
    low = np.float32(limit)
    slope = 1 / float(np.nextafter(low, np.float32(np.inf)) - low)
    return _is_positive(x - float(low), slope)


def _is_positive(x: Tensor, slope: float) -> Tensor:
    """1.0 where x >= 1 / slope, 0.0 where x <= 0."""
    return 1 - torch.relu(1 - torch.relu(x) * slope)


def axis_taps(
    start: Tensor, end: Tensor, cells: Tensor, size: int, ratio: int, aligned: bool
) -> list[tuple[Tensor, Tensor]]:
    """Cells and weights of the bins along one axis (Mask R-CNN, arXiv 1703.06870, section 3).

    Args:
        start: (K, 1) float32, start of the boxes, in cells.
        end: (K, 1) float32, end of the boxes.
        cells: (K, 1) float32, length of the map that each box is pooled from.
        size: Number of bins.
        ratio: Samples per bin.
        aligned: Samples lie half a cell earlier, and boxes may be shorter than a cell.

    Returns:
        2 x ratio pairs of (K, size) float32: index of a cell, and its weight in the mean over a bin's samples. A box
        that is not aligned is at least one cell long; a sample more than one cell before the map or behind its end
        counts as 0.
    """
    length = end - start
    if not aligned:
        length = length.clamp(min=1.0)
    bin_length = length / size
    if aligned:
        start = start - 0.5
    offsets = torch.arange(size, dtype=torch.float32)
    last = cells - 1
    taps = []
    for sample in range(ratio):
        x = start + bin_length * offsets + bin_length * ((sample + 0.5) / ratio)
        outside = _is_positive(x - cells, STEEP) + _is_positive(-1 - x, STEEP)
        share = (1 - outside) / ratio
        x = torch.minimum(x.clamp(min=0.0), last)
        low = torch.floor(x)
        beyond = x - low
        taps.append((low, (1 - beyond) * share))
        taps.append((torch.minimum(low + 1, last), beyond * share))
    return taps

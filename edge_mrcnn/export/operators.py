"""The operators that no exporter lowers well, defined as in torchvision.

`edge_mrcnn::nms`, `edge_mrcnn::multiscale_roi_align` and `edge_mrcnn::live_rows` run eagerly as written here; each
target has its own lowering in `edge_mrcnn.export.lowering`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision import ops


@torch.library.custom_op("edge_mrcnn::nms", mutates_args=())
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression with a result of fixed size.

    Args:
        boxes: (N, 4) float32 xyxy, sorted by descending score.
        scores: (N,) float32; rows with a score of 0 or less are ignored.
        iou_threshold: A box is suppressed by a kept one whose IoU with it is above this.
        limit: Length of the result.

    Returns:
        (limit,) int64 rows that are kept, in order, padded with 0; and their number, () int64.
    """
    rows = torch.nonzero(scores > 0)[:, 0]
    ranks = torch.arange(len(rows), 0, -1, dtype=torch.float32, device=boxes.device)
    kept = rows[ops.nms(boxes[rows], ranks, iou_threshold)][:limit]
    indices = torch.zeros(limit, dtype=torch.int64, device=boxes.device)
    indices[: len(kept)] = kept
    return indices, torch.tensor(len(kept), device=boxes.device)


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    return boxes.new_empty(limit, dtype=torch.int64), boxes.new_empty((), dtype=torch.int64)


@torch.library.custom_op("edge_mrcnn::multiscale_roi_align", mutates_args=())
def multiscale_roi_align(
    maps: list[Tensor], boxes: Tensor, scales: list[float], bounds: list[float], size: int, sampling_ratio: int,
    images: Tensor | None = None, aligned: bool = False,
) -> Tensor:  # fmt: skip
    """RoIAlign of each box on its own level of its own image's pyramid.

    Args:
        maps: Levels (N, C, H_i, W_i) float32, finest first.
        boxes: (K, 4) float32 xyxy in input pixels.
        scales: Cells per input pixel of each level.
        bounds: Areas in square pixels, ascending; a box whose area reaches bounds[i] belongs above level i.
        size: Side of the result, in bins.
        sampling_ratio: Samples per bin and axis; 0 is as many as cells in a bin, rounded up.
        images: (K,) int64, the image that each box belongs to; None where there is one.
        aligned: Samples lie half a cell further to the upper left, and boxes may be smaller than a cell.

    Returns:
        (K, C, size, size) float32, as torchvision's `roi_align` on the level of each box.
    """
    levels = box_levels(boxes, bounds)
    owners = boxes.new_zeros(len(boxes)) if images is None else images.to(boxes)
    result = boxes.new_zeros(len(boxes), maps[0].shape[1], size, size)
    for level, (features, scale) in enumerate(zip(maps, scales, strict=True)):
        rows = torch.nonzero(levels == level)[:, 0]
        rois = torch.cat([owners[rows, None], boxes[rows]], 1)
        result[rows] = ops.roi_align(features, rois, size, scale, sampling_ratio, aligned)
    return result


@multiscale_roi_align.register_fake
def _(
    maps: list[Tensor], boxes: Tensor, scales: list[float], bounds: list[float], size: int, sampling_ratio: int,
    images: Tensor | None = None, aligned: bool = False,
) -> Tensor:  # fmt: skip
    return maps[0].new_empty(boxes.shape[0], maps[0].shape[1], size, size)


@torch.library.custom_op("edge_mrcnn::live_rows", mutates_args=())
def live_rows(scores: Tensor) -> Tensor:
    """The rows with a detection: from this point on, the cost depends on the number of objects.

    Args:
        scores: (R,) float32, 0 in unused rows.

    Returns:
        (n,) int64, ascending.
    """
    return torch.nonzero(scores > 0)[:, 0]


@live_rows.register_fake
def _(scores: Tensor) -> Tensor:
    return scores.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def box_levels(boxes: Tensor, bounds: list[float]) -> Tensor:
    """(K,) int64: the number of bounds that each box's area reaches."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return sum((area >= bound for bound in bounds), torch.zeros_like(area, dtype=torch.int64))


def next_above(threshold: float) -> float:
    """The smallest float32 above a threshold: `x >= next_above(t)` in float32 is `x > t` in any precision."""
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) > threshold else np.nextafter(nearest, np.float32(np.inf)))


def level_bounds(levels: int, coarsest_first_level: int, canonical_scale: float, canonical_level: int) -> list[float]:
    """The areas at which a box moves up a level (arXiv 1612.03144, eq. 1, with torchvision's eps of 1e-6).

    Args:
        levels: Number of levels.
        coarsest_first_level: log2 of the finest level's stride.
        canonical_scale: Side of the box that belongs to `canonical_level`, in pixels.
        canonical_level: See `canonical_scale`.
    """
    first = coarsest_first_level + 1
    sides = [canonical_scale * 2 ** (level - canonical_level - 1e-6) for level in range(first, first + levels - 1)]
    return [side * side for side in sides]

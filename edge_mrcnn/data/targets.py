"""Targets of a training step for one view: boxes, labels, and packed masks.

A dense (N, H, W) mask array of a crowded scene takes gigabytes. Here only the pixels inside each box are kept, box
after box; a step unpacks the few masks that it samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edge_mrcnn.data.outlines import MIN_VISIBLE_PX, Part

Target = dict[str, Tensor]
"""`boxes` (N, 4) float32 xyxy in pixels of the view, at whole pixels; `labels` (N,) int64 from 1; `masks` (P,) uint8 of
0 and 1: the pixels of each box, row by row, box after box; `has_mask` (N,) bool: false for an object with only a box,
whose pixels are all 1 and which trains no mask."""


def make_target(parts: Sequence[Part], labels: np.ndarray, has_mask: np.ndarray | None = None) -> Target:
    """Boxes around masks; objects that are hardly visible are dropped.

    Args:
        parts: N masks.
        labels: (N,) int64.
        has_mask: (N,) bool, false for a mask that is only the box; all true if None.
    """
    outlined = np.ones(len(parts), bool) if has_mask is None else has_mask
    boxes, pixels, kept = [], [], []
    for index, part in enumerate(parts):
        if np.count_nonzero(part.mask) < MIN_VISIBLE_PX:
            continue
        tight = trim(part)
        height, width = tight.mask.shape
        boxes.append((tight.x, tight.y, tight.x + width, tight.y + height))
        pixels.append(tight.mask.ravel())
        kept.append(index)
    packed = np.concatenate(pixels) if pixels else np.zeros(0, np.uint8)
    return {
        "boxes": torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.from_numpy(labels[kept]),
        "masks": torch.from_numpy(packed),
        "has_mask": torch.from_numpy(outlined[kept]),
    }


def trim(part: Part) -> Part:
    """A non-empty mask without empty rows and columns around it."""
    rows = np.flatnonzero(part.mask.any(axis=1))
    columns = np.flatnonzero(part.mask.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    return Part(part.x + left, part.y + top, part.mask[top:bottom, left:right])


def unpack_masks(target: Target, rows: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Dense masks (K, H, W) uint8 of some objects of a view.

    Args:
        target: Target of `make_target`, or with dense `masks` (N, H, W) as in torchvision.
        rows: (K,) int64, indices of objects; may contain duplicates.
        size_hw: Size of the view, in pixels.
    """
    packed = target["masks"]
    if packed.ndim == 3:
        return packed[rows]
    if not len(rows) or not len(packed):
        return packed.new_zeros((len(rows), *size_hw))
    boxes = target["boxes"].long()
    left, top, right, bottom = boxes.unbind(1)
    areas = (right - left) * (bottom - top)
    starts = areas.cumsum(0) - areas  # start of each mask in the packed pixels

    left, top, right, bottom = boxes[rows, :, None, None].unbind(1)  # (K, 1, 1) each
    height, width = size_hw
    y = torch.arange(height, device=packed.device)[None, :, None]
    x = torch.arange(width, device=packed.device)[None, None, :]
    is_inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    index = starts[rows, None, None] + (y - top) * (right - left) + (x - left)
    return packed[index.where(is_inside, 0)] * is_inside

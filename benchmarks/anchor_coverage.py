"""The share of a data set's objects with a matching anchor, by input size and by anchor rule.

    python benchmarks/anchor_coverage.py DATA [DATA ...] [--sizes 320,448,512,640]

An object that no anchor overlaps by 0.5 trains the region proposals with its one best anchor only. Objects are
letterboxed as a model sees them and divided by COCO's areas in pixels of their own picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_mrcnn.config import ModelConfig, default_anchor_sizes
from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.data.coverage import LARGE, SMALL

SIZES = (320, 448, 512, 640)
RATIOS = ModelConfig.anchor_ratios
STRIDES = (8, 16, 32, 64)
FIXED = tuple(ModelConfig.anchor_scale * stride for stride in STRIDES)
"""Of 320 px at every input size, as until version 0.2."""
BANDS = {"small": (0, SMALL), "medium": (SMALL, LARGE), "large": (LARGE, np.inf), "all": (0, np.inf)}

Levels = list[tuple[int, float]]
"""Stride and side of the anchors of each level, in pixels."""


def schemes(side: int) -> dict[str, Levels]:
    """The ways to choose anchors for an input of this size."""
    growth = side / 320
    more = default_anchor_sizes(ModelConfig(image_size_hw=(side, side)))
    return {
        "24 to 192 px": list(zip(STRIDES, FIXED, strict=True)),
        "as many levels as fit": [(8 * 2**level, size) for level, size in enumerate(more)],
        "larger anchors": [(stride, growth * size) for stride, size in zip(STRIDES, FIXED, strict=True)],
    }


def best_overlaps(boxes_xywh: np.ndarray, side: int, levels: Levels) -> np.ndarray:
    """(N,) the IoU of each box with its best anchor.

    For one shape the best anchor is the one whose centre is nearest; torchvision's centres are multiples of the stride.

    Args:
        boxes_xywh: (N, 4) in pixels of the input.
        side: Of the input.
        levels: Stride and side of the anchors of each level.
    """
    sizes = boxes_xywh[:, 2:]
    centers = boxes_xywh[:, :2] + sizes / 2
    best = np.zeros(len(boxes_xywh))
    for stride, anchor in levels:
        last = stride * (-(-side // stride) - 1)
        nearest = np.clip(np.round(centers / stride) * stride, 0, last)
        for ratio in RATIOS:
            shape = anchor * np.array([ratio**-0.5, ratio**0.5])
            low = np.maximum(centers - sizes / 2, nearest - shape / 2)
            high = np.minimum(centers + sizes / 2, nearest + shape / 2)
            shared = np.clip(high - low, 0, None).prod(1)
            best = np.maximum(best, shared / (sizes.prod(1) + shape.prod() - shared))
    return best


def letterbox(data: CocoData, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) xywh of all objects in pixels of a square input, and their areas (N,) in their own pictures."""
    boxes, areas = [], []
    for image in data.images:
        scale = side / max(image.width, image.height)
        margin = (side - scale * np.array([image.width, image.height])) / 2
        for annotation in data.objects(image.id):
            if annotation["iscrowd"]:
                continue
            box = scale * np.array(annotation["bbox"], dtype=float)
            box[:2] += margin
            boxes.append(box)
            areas.append(annotation["area"])
    return np.array(boxes).reshape(-1, 4), np.array(areas)


def lines(data: CocoData, sizes: Sequence[int], least: float) -> Iterator[str]:
    """A table of shares in per cent, as Markdown."""
    yield f"| input | anchors | {' | '.join(BANDS)} |"
    yield f"|---|---|{'---:|' * len(BANDS)}"
    for side in sizes:
        boxes, areas = letterbox(data, side)
        for name, levels in schemes(side).items():
            found = best_overlaps(boxes, side, levels) >= least
            shares = [found[(areas >= low) & (areas < high)].mean() for low, high in BANDS.values()]
            yield f"| {side} | {name} | {' | '.join(f'{100 * share:.0f}' for share in shares)} |"


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path, help="what `edge-mrcnn train --data` takes")
    parser.add_argument("--split", default="train")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="input sizes in pixels")
    parser.add_argument("--iou", type=float, default=0.5, help="an anchor that overlaps less is not found")
    arguments = parser.parse_args()
    for path in arguments.data:
        data = load(path, arguments.split)
        print(f"\n{path.name}: objects with an anchor of IoU {arguments.iou:g} or more, in per cent\n")
        print("\n".join(lines(data, [int(side) for side in arguments.sizes.split(",")], arguments.iou)))


if __name__ == "__main__":
    main()

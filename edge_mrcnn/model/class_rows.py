"""A trained model for other classes: the rows of its predictors that it knows are kept, by the names of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from edge_mrcnn.model.box_head import AgnosticBoxPredictor
from edge_mrcnn.model.checkpoint import Checkpoint

BOX = 4
"""Rows of a box regression for each class."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How classes of a data set and of a model belong together; upper and lower case are the same."""

    kept: tuple[str, ...]
    """Classes of the data that the model knows, by the data's names."""
    new: tuple[str, ...]
    """Classes of the data that it does not know."""
    unused: tuple[str, ...]
    """Classes of the model that the data does not have."""

    @property
    def is_whole(self) -> bool:
        """Whether both have the same classes, in whatever order."""
        return not self.new and not self.unused

    def __str__(self) -> str:
        count = len(self.kept) + len(self.new)
        parts = [f"{len(self.kept)} of {count} classes are kept from the trained heads ({_listed(self.kept)})"]
        parts += [f"new: {_listed(self.new)}"] if self.new else []
        parts += [f"left out: {_listed(self.unused)}"] if self.unused else []
        return "; ".join(parts)


def compare_classes(known: Sequence[str], wanted: Sequence[str]) -> Overlap:
    """Which of the wanted classes are known."""
    ours, theirs = ({name.casefold() for name in names} for names in (known, wanted))
    return Overlap(
        kept=tuple(name for name in wanted if name.casefold() in ours),
        new=tuple(name for name in wanted if name.casefold() not in ours),
        unused=tuple(name for name in known if name.casefold() not in theirs),
    )


def map_classes(checkpoint: Checkpoint, classes: tuple[str, ...], category_ids: tuple[int, ...]) -> Checkpoint:
    """A model for these classes, whose predictors are the checkpoint's where a name is the same.

    Rows of classes that it does not know are fresh. Everything below the predictors is shared with the checkpoint.
    """
    old = {name.casefold(): row for row, name in enumerate(checkpoint.classes, 1)}
    pairs = [(0, 0)]  # background
    pairs += [(row, old[name.casefold()]) for row, name in enumerate(classes, 1) if name.casefold() in old]
    same = len(classes) == len(checkpoint.classes) and all(to == row for to, row in pairs)
    if not (same and len(pairs) == len(classes) + 1):
        _replace_predictors(checkpoint.model, len(classes) + 1, pairs)
    return replace(checkpoint, classes=classes, category_ids=category_ids)


def _replace_predictors(model: MaskRCNN, num_classes: int, pairs: list[tuple[int, int]]) -> None:
    """Give a model, in place, predictors for so many classes; pairs are rows of the new and the old ones."""
    heads = model.roi_heads
    boxes, masks = heads.box_predictor, heads.mask_predictor
    agnostic = not isinstance(boxes, FastRCNNPredictor)
    make: type[nn.Module] = AgnosticBoxPredictor if agnostic else FastRCNNPredictor
    heads.box_predictor = make(boxes.cls_score.in_features, num_classes)
    _copy_rows(heads.box_predictor.cls_score, boxes.cls_score, pairs)
    if agnostic:
        heads.box_predictor.bbox_pred = boxes.bbox_pred
    else:
        of_boxes = [(BOX * new + i, BOX * old + i) for new, old in pairs for i in range(BOX)]
        _copy_rows(heads.box_predictor.bbox_pred, boxes.bbox_pred, of_boxes)
    deconv = masks.conv5_mask
    heads.mask_predictor = MaskRCNNPredictor(deconv.in_channels, deconv.out_channels, num_classes)
    heads.mask_predictor.conv5_mask = deconv
    _copy_rows(heads.mask_predictor.mask_fcn_logits, masks.mask_fcn_logits, pairs)


@torch.no_grad()
def _copy_rows(layer: nn.Linear | nn.Conv2d, source: nn.Linear | nn.Conv2d, pairs: list[tuple[int, int]]) -> None:
    assert layer.bias is not None and source.bias is not None
    rows, old = (torch.tensor(values) for values in zip(*pairs, strict=True))
    layer.weight[rows] = source.weight[old]
    layer.bias[rows] = source.bias[old]


def _listed(names: Sequence[str], limit: int = 6) -> str:
    """Names in a line, the first of many."""
    if not names:
        return "none"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")

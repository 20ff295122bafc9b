"""A trained model for other classes: known rows of its predictors are kept, by class name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from edge_mrcnn.model.box_head import AgnosticBoxPredictor
from edge_mrcnn.model.checkpoint import Checkpoint
from runtimes.model_card import plain_class_name

BOX = 4
"""Number of rows of a box regression per class."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Matching of a data set's and a model's classes; names are compared as in `plain_class_name`."""

    kept: tuple[str, ...]
    """Classes of the data that the model has, by the data's names."""
    new: tuple[str, ...]
    """Classes of the data that the model lacks."""
    unused: tuple[str, ...]
    """Classes of the model that the data lacks."""

    @property
    def is_whole(self) -> bool:
        """Whether both have the same classes, in any order."""
        return not self.new and not self.unused

    def __str__(self) -> str:
        count = len(self.kept) + len(self.new)
        kept = f" ({_listed(self.kept)})" if self.kept else ""
        line = f"{len(self.kept)} of {count} classes are kept from the trained heads{kept}"
        if self.new:
            line += f"; new: {_listed(self.new)}"
        if self.unused:
            line += f"; left out: {_listed(self.unused)}"
        return line


def compare_classes(known: Sequence[str], wanted: Sequence[str]) -> Overlap:
    """Match the wanted classes with the known ones."""
    folded_known = {plain_class_name(name) for name in known}
    folded_wanted = {plain_class_name(name) for name in wanted}
    kept, new = [], []
    for name in wanted:
        if plain_class_name(name) in folded_known:
            kept.append(name)
        else:
            new.append(name)
    unused = [name for name in known if plain_class_name(name) not in folded_wanted]
    return Overlap(kept=tuple(kept), new=tuple(new), unused=tuple(unused))


def map_classes(checkpoint: Checkpoint, classes: tuple[str, ...], category_ids: tuple[int, ...]) -> Checkpoint:
    """A model for these classes, with the checkpoint's predictor rows for classes with the same name.

    Rows of new classes have initial weights. Everything below the predictors is shared with the checkpoint.
    """
    old_rows = {plain_class_name(name): row for row, name in enumerate(checkpoint.classes, start=1)}
    pairs = [(0, 0)]  # background
    for new_row, name in enumerate(classes, start=1):
        old_row = old_rows.get(plain_class_name(name))
        if old_row is not None:
            pairs.append((new_row, old_row))
    unchanged = [(row, row) for row in range(len(classes) + 1)]
    if len(classes) != len(checkpoint.classes) or pairs != unchanged:
        _replace_predictors(checkpoint.model, len(classes) + 1, pairs)
    return replace(checkpoint, classes=classes, category_ids=category_ids)


def _replace_predictors(model: MaskRCNN, num_classes: int, pairs: list[tuple[int, int]]) -> None:
    """Replace a model's predictors in place, for this number of classes; pairs are rows of the new and the old ones."""
    heads = model.roi_heads
    old_boxes, old_masks = heads.box_predictor, heads.mask_predictor
    is_agnostic = not isinstance(old_boxes, FastRCNNPredictor)
    make: type[nn.Module] = AgnosticBoxPredictor if is_agnostic else FastRCNNPredictor
    boxes: Any = make(old_boxes.cls_score.in_features, num_classes)
    _copy_rows(boxes.cls_score, old_boxes.cls_score, pairs)
    if is_agnostic:
        boxes.bbox_pred = old_boxes.bbox_pred
    else:
        _copy_rows(boxes.bbox_pred, old_boxes.bbox_pred, _regression_rows(pairs))
    heads.box_predictor = boxes

    deconv = old_masks.conv5_mask
    masks: Any = MaskRCNNPredictor(deconv.in_channels, deconv.out_channels, num_classes)
    masks.conv5_mask = deconv
    _copy_rows(masks.mask_fcn_logits, old_masks.mask_fcn_logits, pairs)
    heads.mask_predictor = masks


def _regression_rows(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Rows of a box regression that belong to pairs of classes."""
    rows = []
    for new, old in pairs:
        for coordinate in range(BOX):
            rows.append((BOX * new + coordinate, BOX * old + coordinate))
    return rows


@torch.no_grad()
def _copy_rows(layer: nn.Linear | nn.Conv2d, source: nn.Linear | nn.Conv2d, pairs: list[tuple[int, int]]) -> None:
    assert layer.bias is not None and source.bias is not None
    new, old = torch.tensor(pairs).unbind(1)
    layer.weight[new] = source.weight[old]
    layer.bias[new] = source.bias[old]


def _listed(names: Sequence[str], limit: int = 6) -> str:
    """Names in one line, the first of a long list."""
    line = ", ".join(names[:limit])
    if len(names) > limit:
        line += f" and {len(names) - limit} more"
    return line

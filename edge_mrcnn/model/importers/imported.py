"""What an importer gives, and what all of them do: names by patterns, classes, and refusals that say the way on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from edge_mrcnn.config import IMAGENET_STD, ModelConfig, preset
from runtimes.errors import ModelFileError

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A model of another project in our names."""

    config: ModelConfig
    """Its parts."""
    state: State
    """Its weights, as `build_model` names them; label 0 is background."""
    classes: tuple[str, ...]
    """Names of its classes."""
    category_ids: tuple[int, ...]
    """The data set's own id of each class."""
    training: dict[str, Any] = field(default_factory=dict)
    """Where it comes from."""
    notes: tuple[str, ...] = ()
    """What is not in the file and was assumed, a sentence each."""

    def noting(self, *notes: str) -> Imported:
        """The same with further notes."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """How another project prepares pictures."""

    mean_rgb: tuple[float, float, float]
    """In [0, 255]."""
    std_rgb: tuple[float, float, float]
    """In [0, 255]."""
    is_bgr: bool
    """Whether its first convolution takes blue first."""

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """The setting of `ModelConfig`, in [0, 1]."""
        red, green, blue = (value / 255 for value in self.mean_rgb)
        return red, green, blue

    def adapt(self, weight: Tensor) -> Tensor:
        """The first convolution (C, 3, 7, 7), so that it takes RGB divided by ImageNet's deviation."""
        weight = weight.flip(1) if self.is_bgr else weight
        scale = [255 * usual / own for usual, own in zip(IMAGENET_STD, self.std_rgb, strict=True)]
        return weight * torch.tensor(scale, dtype=weight.dtype).reshape(1, 3, 1, 1)


def refuse(path: Path, project: str, what: str) -> NoReturn:
    """Say that a part has no counterpart here, and what to do instead.

    Raises:
        ModelFileError: Always.
    """
    raise ModelFileError(
        f"{path}: {project} model with {what}: what is imported is a Mask R-CNN on a ResNet-50 or ResNet-101 FPN with "
        "the standard heads. Train a model of ours on the same data: edge-mrcnn train --data DIR --model nano-dense; "
        "this one cannot be its teacher either"
    )


Rename = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern of whole names, and the name here."""


def rename(state: Mapping[str, Tensor], renames: Sequence[Rename]) -> tuple[State, list[str]]:
    """Weights under our names.

    Args:
        state: Weights under other names.
        renames: Tried in order; a pattern must match a whole name.

    Returns:
        What has a name here, and the names of what has none.
    """
    named: State = {}
    unknown = []
    for key, value in state.items():
        for pattern, replacement in renames:
            if match := re.fullmatch(pattern, key):
                ours = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
                named[ours] = value
                break
        else:
            unknown.append(key)
    return named, unknown


SCORES = "roi_heads.box_predictor.cls_score"
"""The predictor whose rows are classes, background among them, which others have last."""
OBJECTS_ONLY = {"roi_heads.box_predictor.bbox_pred": 4, "roi_heads.mask_predictor.mask_fcn_logits": 1}
"""Predictors that others have for objects alone, and their rows for each class."""


def put_background_first(state: State) -> None:
    """Rows of predictors in torchvision's order, in place: background is class 0, and has a box and a mask as well."""
    for part in ("weight", "bias"):
        state[f"{SCORES}.{part}"] = state[f"{SCORES}.{part}"].roll(1, 0)
        for name, rows in OBJECTS_ONLY.items():
            objects = state[f"{name}.{part}"]
            background = torch.zeros_like(objects[:1]).repeat_interleave(rows, 0)
            state[f"{name}.{part}"] = torch.cat([background, objects])


def count_batches(state: State) -> None:
    """Add, in place, the counters that BatchNorm has and frozen norm layers have not."""
    for key in [key for key in state if key.endswith(".running_var")]:
        state.setdefault(key.replace("running_var", "num_batches_tracked"), torch.tensor(0))


DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
"""Blocks of the stages of a ResNet, and its layers."""


def resnet_depth(state: State) -> int:
    """Layers of the ResNet of renamed weights, 0 for what is none of `DEPTHS`."""
    blocks = [re.fullmatch(r"backbone\.body\.layer(\d)\.(\d+)\.conv3\.weight", key) for key in state]
    found = {(int(match[1]), int(match[2])) for match in blocks if match}
    stages = tuple(sum(stage == number for stage, _ in found) for number in range(1, 5))
    return DEPTHS.get(stages, 0)


def base_config(name: str, depth: int) -> ModelConfig:
    """The parts of a Mask R-CNN of another project, with the settings that Detectron2 and MMDetection share."""
    return preset("resnet50").updated(
        name=name,
        backbone=f"torchvision_resnet{depth}_fpn",
        image_std=IMAGENET_STD,
        roi_aligned=True,
        roi_samples=0,
        anchors_rounded=False,
    )


def check_anchors(path: Path, found: Imported) -> None:
    """See to it that the RPN scores as many anchors in a place as the settings have.

    Raises:
        ModelFileError: If it does not.
    """
    scored = len(found.state["rpn.head.cls_logits.bias"])
    sizes = max(1, len(found.config.anchor_sizes) // ANCHOR_LEVELS)
    expected = sizes * len(found.config.anchor_ratios)
    if scored != expected:
        raise ModelFileError(
            f"{path}: its RPN scores {scored} anchors in each place, its settings have {expected}: "
            "give the configuration that it was trained with"
        )


ANCHOR_LEVELS = 5
"""Maps of the pyramid that have anchors."""
COCO_CLASSES = 80


def coco_classes() -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The 80 names of COCO and their ids."""
    listed = get_model_weights("maskrcnn_resnet50_fpn").DEFAULT.meta["categories"]
    ids = tuple(number for number, name in enumerate(listed) if number and name != "N/A")
    return tuple(listed[number] for number in ids), ids


def numbered_classes(count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids of classes of which nothing but their number is known."""
    ids = tuple(range(1, count + 1))
    return tuple(f"class{number}" for number in ids), ids

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


@dataclass(frozen=True, kw_only=True)
class Project:
    """What is known of the Mask R-CNN of another project."""

    name: str
    """In the possessive, for messages."""
    renames: tuple[Rename, ...]
    """Its names of weights and ours."""
    constants: tuple[str, ...]
    """Beginnings of names that a state dict may hold beside the weights."""
    parts: tuple[tuple[str, str], ...]
    """Beginnings of names that have no counterpart here, and what they belong to."""
    expected: tuple[tuple[str, Any, str], ...]
    """Settings that must be so where the configuration has them, and what a model with another one has."""

    def refuse(self, path: Path, what: str) -> NoReturn:
        """Say that a part has no counterpart here, and what to do instead.

        Raises:
            ModelFileError: Always.
        """
        raise ModelFileError(
            f"{path}: {self.name} model with {what}: what is imported is a Mask R-CNN on a ResNet-50 or ResNet-101 FPN "
            "with the standard heads. Train a model of ours on the same data: edge-mrcnn train --data DIR --model "
            "nano-dense; this one cannot be its teacher either"
        )

    def without_constants(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The weights alone."""
        return {key: value for key, value in state.items() if not key.startswith(self.constants)}

    def refuse_parts(self, path: Path, state: Mapping[str, Tensor]) -> None:
        """Raise ModelFileError if a weight belongs to a part that has no counterpart here."""
        for start, what in self.parts:
            if any(key.startswith(start) for key in state):
                self.refuse(path, what)

    def rename(self, path: Path, state: Mapping[str, Tensor]) -> State:
        """Weights under our names.

        Raises:
            ModelFileError: If one has no name here.
        """
        named, unknown = rename(state, self.renames)
        if unknown:
            self.refuse(path, f"{len(unknown)} unknown weights, such as {unknown[0]}")
        return named


class Settings:
    """What the configuration of another project says, with its defaults where it says nothing."""

    def __init__(self, path: Path, project: Project, config: Mapping[str, Any]) -> None:
        """
        Args:
            path: The checkpoint, for messages.
            project: What wrote it.
            config: The settings of the model, nested.
        """
        self.path = path
        self.project = project
        self.config = config

    def get(self, name: str, default: Any) -> Any:
        """A setting by its dotted name."""
        value: Any = self.config
        for key in name.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return default
            value = value[key]
        return list(value) if isinstance(value, tuple) else value

    def check(self) -> None:
        """Raise ModelFileError where a setting has no counterpart here."""
        for name, expected, what in self.project.expected:
            value = self.get(name, expected)
            if value != expected:
                self.refuse(what.format(value))

    def refuse(self, what: str) -> NoReturn:
        """Raise ModelFileError for a model with such a part."""
        self.project.refuse(self.path, what)

    def expect_depth(self, depth: int) -> None:
        """Raise ModelFileError where the ResNet is of an unknown depth."""
        if depth not in (50, 101):
            self.refuse(f"a ResNet of {depth or 'unknown'} layers")


def finish_weights(weights: State, normalisation: Normalisation) -> int:
    """Give renamed weights our arithmetic, in place: our input, background first, BatchNorm's counters.

    Returns:
        The number of classes, background not counted.
    """
    weights[STEM] = normalisation.adapt(weights[STEM])
    put_background_first(weights)
    count_batches(weights)
    return len(weights[f"{SCORES}.bias"]) - 1


def ordered(values: Sequence[float], is_bgr: bool) -> tuple[float, float, float]:
    """Three numbers of a configuration, which are in the order of its channels, as RGB."""
    first, second, third = values[::-1] if is_bgr else values
    return first, second, third


STEM = "backbone.body.conv1.weight"
"""The first convolution."""
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

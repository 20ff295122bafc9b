"""The result of an importer, and its shared parts: renaming by patterns, classes, and errors with advice."""

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
from runtimes.errors import ModelFileError, one_line

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A model of another project in our names."""

    config: ModelConfig
    """Settings of its parts."""
    state: State
    """Its weights, named as in `build_model`; label 0 is background."""
    classes: tuple[str, ...]
    """Names of its classes."""
    category_ids: tuple[int, ...]
    """The data set's id of each class."""
    training: dict[str, Any] = field(default_factory=dict)
    """Its provenance."""
    notes: tuple[str, ...] = ()
    """Assumptions about information that is not in the file, a sentence each."""

    def noting(self, *notes: str) -> Imported:
        """The same with further notes."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Image normalisation of another project."""

    mean_rgb: tuple[float, float, float]
    """In [0, 255]."""
    std_rgb: tuple[float, float, float]
    """In [0, 255]."""
    is_bgr: bool
    """Whether its first convolution takes BGR."""

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """The fields of `ModelConfig`, in [0, 1]."""
        red, green, blue = (value / 255 for value in self.mean_rgb)
        return red, green, blue

    def adapt(self, weight: Tensor) -> Tensor:
        """The first convolution (C, 3, 7, 7), converted to RGB divided by ImageNet's deviation."""
        weight = weight.flip(1) if self.is_bgr else weight
        scale = [255 * usual / own for usual, own in zip(IMAGENET_STD, self.std_rgb, strict=True)]
        return weight * torch.tensor(scale, dtype=weight.dtype).reshape(1, 3, 1, 1)


Rename = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern for whole names, and our name."""


def rename(state: Mapping[str, Tensor], renames: Sequence[Rename]) -> tuple[State, list[str]]:
    """Weights under our names.

    Args:
        state: Weights under other names.
        renames: Tried in order; a pattern must match a whole name.

    Returns:
        The renamed weights, and the names without a match.
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
    """Description of another project's Mask R-CNN."""

    name: str
    """Name in the possessive, for messages."""
    renames: tuple[Rename, ...]
    """Its names of weights -> ours."""
    constants: tuple[str, ...]
    """Prefixes of entries of a state dict besides the weights."""
    parts: tuple[tuple[str, str], ...]
    """Prefixes of names without counterpart here -> description."""
    expected: tuple[tuple[str, Any, str], ...]
    """Settings that must have this value if the configuration has them, and the description of a model with another
    one."""

    def refuse(self, path: Path, what: str) -> NoReturn:
        """Raise the error for a part without counterpart here, with advice.

        Raises:
            ModelFileError: Always.
        """
        raise ModelFileError(
            f"{path}: {self.name} model with {what}; expected a Mask R-CNN on a ResNet-50 or ResNet-101 FPN with the "
            "standard heads. Train a model of ours on the same data: edge-mrcnn train --data DIR --model "
            "nano-dense; this one cannot be its teacher either"
        )

    def without_constants(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Only the weights."""
        return {key: value for key, value in state.items() if not key.startswith(self.constants)}

    def refuse_parts(self, path: Path, state: Mapping[str, Tensor]) -> None:
        """Raise ModelFileError if a weight belongs to a part without counterpart here."""
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
    """Settings of another project's configuration, with its defaults for missing ones."""

    def __init__(self, path: Path, project: Project, config: Mapping[str, Any]) -> None:
        """

        Args:
            path: The checkpoint, for messages.
            project: Name of the project.
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

    def read(self) -> dict[str, Any]:
        """The checked settings as fields of `ModelConfig`.

        Raises:
            ModelFileError: If one has no counterpart here, or another form than in its project.
        """
        try:
            self.check()
            return self.model_settings()
        except ModelFileError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ModelFileError(
                f"{self.path}: its configuration has a value in another form than {self.project.name} "
                f"({one_line(error)}); give the configuration of its training"
            ) from error

    def model_settings(self) -> dict[str, Any]:
        """Fields of `ModelConfig`."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise ModelFileError if a setting has no counterpart here."""
        for name, expected, what in self.project.expected:
            value = self.get(name, expected)
            if value != expected:
                self.refuse(what.format(value))

    def refuse(self, what: str) -> NoReturn:
        """Raise ModelFileError for a model with such a part."""
        self.project.refuse(self.path, what)

    def expect_depth(self, depth: int) -> None:
        """Raise ModelFileError if the ResNet has an unknown depth."""
        if depth not in (50, 101):
            self.refuse(f"a ResNet of {depth or 'unknown'} layers")


def finish_weights(weights: State, normalisation: Normalisation) -> int:
    """Convert renamed weights to our conventions, in place: our input, background first, BatchNorm's counters.

    Returns:
        The number of classes, without background.
    """
    weights[STEM] = normalisation.adapt(weights[STEM])
    put_background_first(weights)
    count_batches(weights)
    return len(weights[f"{SCORES}.bias"]) - 1


def ordered(values: Sequence[float], is_bgr: bool) -> tuple[float, float, float]:
    """Three numbers of a configuration, in its channel order, as RGB."""
    first, second, third = values[::-1] if is_bgr else values
    return first, second, third


STEM = "backbone.body.conv1.weight"
"""The first convolution."""
SCORES = "roi_heads.box_predictor.cls_score"
"""The predictor with a row per class and the background, which other projects have last."""
OBJECTS_ONLY = {"roi_heads.box_predictor.bbox_pred": 4, "roi_heads.mask_predictor.mask_fcn_logits": 1}
"""Predictors without background in other projects, and their number of rows per class."""


def put_background_first(state: State) -> None:
    """Rows of predictors in torchvision's order, in place: background is class 0, and also has a box and a mask."""
    for part in ("weight", "bias"):
        state[f"{SCORES}.{part}"] = state[f"{SCORES}.{part}"].roll(1, 0)
        for name, rows in OBJECTS_ONLY.items():
            objects = state[f"{name}.{part}"]
            background = torch.zeros_like(objects[:1]).repeat_interleave(rows, 0)
            state[f"{name}.{part}"] = torch.cat([background, objects])


def count_batches(state: State) -> None:
    """Add, in place, BatchNorm's counters, which frozen norm layers lack."""
    for key in [key for key in state if key.endswith(".running_var")]:
        state.setdefault(key.replace("running_var", "num_batches_tracked"), torch.tensor(0))


DEPTHS: dict[tuple[int, ...], int] = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
"""Blocks of the stages of a ResNet -> its depth."""


def resnet_depth(state: State) -> int:
    """Depth of the ResNet of renamed weights, 0 if it is not in `DEPTHS`."""
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
    """Check that the RPN scores as many anchors per position as the settings have.

    Raises:
        ModelFileError: If it does not.
    """
    scored = len(found.state["rpn.head.cls_logits.bias"])
    sizes = max(1, len(found.config.anchor_sizes) // ANCHOR_LEVELS)
    expected = sizes * len(found.config.anchor_ratios)
    if scored != expected:
        raise ModelFileError(
            f"{path}: its RPN scores {scored} anchors per position, its settings have {expected}; give the "
            "configuration of its training"
        )


ANCHOR_LEVELS = 5
"""Number of pyramid levels with anchors."""
COCO_CLASSES = 80


def coco_classes() -> tuple[tuple[str, ...], tuple[int, ...]]:
    """COCO's 80 class names and their ids."""
    listed = get_model_weights("maskrcnn_resnet50_fpn").DEFAULT.meta["categories"]
    ids = tuple(number for number, name in enumerate(listed) if number and name != "N/A")
    return tuple(listed[number] for number in ids), ids


def numbered_classes(count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids for classes of which only the number is known."""
    ids = tuple(range(1, count + 1))
    return tuple(f"class{number}" for number in ids), ids

"""Torchvision's published Mask R-CNNs, and those trained with torchvision.

The keys of a state dict of `maskrcnn_resnet50_fpn` or `maskrcnn_resnet50_fpn_v2` identify the model, and its shapes the
number of classes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from edge_mrcnn.config import ModelConfig, preset
from edge_mrcnn.model.importers.imported import Imported, check_anchors
from edge_mrcnn.model.importers.unpacking import find_by_mark
from runtimes.errors import MissingFileError, UsageError, one_line
from runtimes.shipped import checkpoint_file

PREFIX = "torchvision:"
"""Prefix of the name of a published model."""
MODELS = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2")
"""Torchvision's Mask R-CNNs."""

EPSILON = 1e-5
"""Epsilon that BatchNorm adds to a variance."""

_SCORES = "roi_heads.box_predictor.cls_score.weight"
_SECOND_RPN_CONVOLUTION = "rpn.head.conv.1.0.weight"
"""Key that only the second version has."""
_MARKS = (_SCORES, "roi_heads.mask_predictor.mask_fcn_logits.weight", "backbone.body.layer4.2.conv3.weight")


def locate(weights: str | Path) -> Path:
    """The file of a checkpoint; "people" is bundled, "torchvision:NAME" is downloaded once by torchvision's loader.

    Raises:
        UsageError: If torchvision has no such Mask R-CNN.
        MissingFileError: If it cannot be downloaded, or is not installed.
    """
    if not str(weights).startswith(PREFIX):
        return checkpoint_file(weights)
    name = str(weights).removeprefix(PREFIX)
    if name not in MODELS:
        raise UsageError(f"{weights}: expected one of {', '.join(PREFIX + known for known in MODELS)}")
    published = get_model_weights(name).DEFAULT
    path = Path(torch.hub.get_dir(), "checkpoints", published.url.rpartition("/")[2])
    try:
        published.get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise MissingFileError(
            f"{weights}: cannot be downloaded ({one_line(error)}); put {path.name} into {path.parent}"
        ) from error
    return path


def file_stem(weights: str | Path) -> str:
    """Stem of the names of files made from a checkpoint."""
    return Path(str(weights).removeprefix(PREFIX)).stem


def import_torchvision(path: Path, record: Any) -> Imported | None:
    """One of torchvision's Mask R-CNNs, None for other records.

    Args:
        path: The file, for messages.
        record: A state dict, or the record of a training loop with it, such as torchvision's training script, Lightning
            or a moving average.

    Raises:
        ModelFileError: If its anchors differ from torchvision's.
    """
    found = find_by_mark(record, _MARKS)
    if found is None:
        return None
    state, where = found
    state = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    config, classes, category_ids = describe(state)
    weights = _without_epsilon(state) if _is_frozen(state) else state
    imported = Imported(config=config, state=weights, classes=classes, category_ids=category_ids)
    check_anchors(path, imported)
    notes = (f"the weights are taken from {where}",) if where not in ("", "model", "state_dict") else ()
    is_published = path.name in _published_files()
    return imported.noting(*notes) if is_published else imported.noting(*notes, ASSUMED)


ASSUMED = (
    "anchors, thresholds and input size are not in torchvision's files: its own anchors of 32 to 512 px and an input "
    "of 832x832 px are assumed; see --imgsz"
)
"""Note on a torchvision model that is not one of the published ones."""


def _published_files() -> set[str]:
    """Names of torchvision's published files."""
    return {get_model_weights(name).DEFAULT.url.rpartition("/")[2] for name in MODELS}


def _is_frozen(state: dict[str, Tensor]) -> bool:
    """Whether it is of the first version with torchvision's frozen norm layers, which have no batch counters."""
    return _SECOND_RPN_CONVOLUTION not in state and not any(key.endswith("num_batches_tracked") for key in state)


def _without_epsilon(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Variances minus the epsilon of BatchNorm, which then adds it: the published weights use none."""
    counted = {key: value - EPSILON if key.endswith("running_var") else value for key, value in state.items()}
    norms = [key.removesuffix("running_var") for key in state if key.endswith("running_var")]
    return {**counted, **{f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}}


def describe(state: dict[str, Tensor]) -> tuple[ModelConfig, tuple[str, ...], tuple[int, ...]]:
    """Settings, class names and category ids of a torchvision state dict.

    91 logits are COCO's ids in torchvision's published models, of which ten have no class; other classes are numbered.
    """
    name = MODELS[_SECOND_RPN_CONVOLUTION in state]
    config = replace(preset("resnet50"), name=name, backbone=f"torchvision_{name.removeprefix('maskrcnn_')}")
    classes: list[str] = get_model_weights(name).DEFAULT.meta["categories"][1:]
    count = len(state[_SCORES]) - 1
    names = tuple(classes) if count == len(classes) else tuple(f"class{i}" for i in range(1, count + 1))
    return config, names, tuple(range(1, count + 1))

"""Checkpoints: weights, architecture and provenance in one file, which is read without running code.

The architecture is the config plus the shapes of the weights, so a pruned model is an ordinary checkpoint: layers take
the widths in the file.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.config import ModelConfig
from edge_mrcnn.model.importers.dispatch import import_record
from edge_mrcnn.model.importers.foreign import name_foreign
from edge_mrcnn.model.importers.imported import Imported
from edge_mrcnn.model.importers.origin import Origin
from edge_mrcnn.model.importers.reading import read_record
from edge_mrcnn.model.mask_rcnn import apply_inference_settings, build_model
from edge_mrcnn.model.published import import_torchvision, locate
from runtimes.errors import DataError, MissingFileError, ModelFileError, UsageError, one_line
from runtimes.formats.base import ZIP_SEAL
from runtimes.seal import check_seal, write_seal

FORMAT = "edge-mrcnn-checkpoint-1"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model with its metadata."""

    model: MaskRCNN
    """The model, in eval mode."""
    config: ModelConfig
    """Settings of its parts."""
    classes: tuple[str, ...]
    """Class names; label i + 1 of the model is classes[i]."""
    category_ids: tuple[int, ...]
    """The data set's id of each class."""
    training: dict[str, Any] = field(default_factory=dict)
    """Provenance: data, epochs, pruning, AP."""


def rename_classes(
    checkpoint: Checkpoint, classes: tuple[str, ...], category_ids: tuple[int, ...] | None = None
) -> Checkpoint:
    """A checkpoint with other class names.

    Args:
        checkpoint: The checkpoint.
        classes: Names, in the order of the labels.
        category_ids: The data set's ids; the checkpoint's if None.

    One name too many is left out if it is that of the background: the first of the list, with such a name or the id 0.

    Raises:
        DataError: If the number of names differs from the checkpoint's.
    """
    count, ids = len(checkpoint.classes), category_ids or ()
    if len(classes) == count + 1 and (_is_background(classes[0]) or ids[:1] == (0,)):
        log.warning("class names: %s is left out; the model has %d classes", classes[0], count)
        classes, category_ids = classes[1:], ids[1:] if ids[:1] == (0,) else ids[:-1]
    if len(classes) != count:
        shown = ", ".join(classes[:4]) + (" ..." if len(classes) > 4 else "")
        raise DataError(f"expected the names of {count} classes, got {len(classes)} ({shown})")
    return replace(checkpoint, classes=classes, category_ids=category_ids or checkpoint.category_ids)


def _is_background(name: str) -> bool:
    return name.strip("_").casefold() in ("background", "bg")


def resize_input(checkpoint: Checkpoint, image_size_hw: tuple[int, int]) -> Checkpoint:
    """A checkpoint with another input size, in pixels; the model is changed in place."""
    config = checkpoint.config.updated(image_size_hw=image_size_hw)
    apply_inference_settings(checkpoint.model, config)
    return replace(checkpoint, config=config)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint, *, is_half: bool = False) -> None:
    """Write a checkpoint; an existing file is replaced only when the new one is complete.

    Args:
        path: Output file.
        checkpoint: The checkpoint.
        is_half: Store the weights of layers in FP16, at half the size; norms and biases stay in FP32.

    Raises:
        OSError: If it cannot be written; the incomplete file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    record = {
        "format": FORMAT,
        "config": checkpoint.config.to_dict(),
        "classes": list(checkpoint.classes),
        "category_ids": list(checkpoint.category_ids),
        "training": checkpoint.training,
        "state_dict": {k: _as_stored(v, is_half) for k, v in checkpoint.model.state_dict().items()},
    }
    try:
        torch.save(record, partial)
    except (OSError, RuntimeError) as error:  # torch has its own error for a full disk
        partial.unlink(missing_ok=True)
        number = getattr(error, "errno", None) or errno.ENOSPC
        raise OSError(number, f"cannot be written: {os.strerror(number)}", str(path)) from error
    partial.replace(path)


def _as_stored(value: Tensor, is_half: bool) -> Tensor:
    """A weight in its storage type: one-dimensional weights are small, and a variance may be too small for FP16."""
    value = value.detach().cpu()
    return value.half() if is_half and value.dim() > 1 and value.is_floating_point() else value


def seal_checkpoint(path: str | Path) -> None:
    """Store the SHA-256 of a checkpoint in the file; from then on it is checked whenever the file is opened."""
    with zipfile.ZipFile(path, "a") as archive:  # torch.save writes a ZIP archive
        archive.comment = ZIP_SEAL.blank
    write_seal(path, ZIP_SEAL)


def _check_own_seal(path: Path) -> None:
    """Raise ModelFileError if a checkpoint is sealed and damaged; most are not sealed."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - ZIP_SEAL.length))
        end = file.read()
    if ZIP_SEAL.is_in(end):
        check_seal(path, ZIP_SEAL)


def _say_missing(path: Path) -> str:
    """Why there is no checkpoint at a path, with advice."""
    if not path.is_dir():
        return "no such checkpoint"
    inside = [name for name in ("best.pt", "last.pt") if (path / name).is_file()]
    if inside:
        return f"is a folder; the checkpoint in it is {path / inside[0]}"
    return "is a folder; expected a checkpoint such as best.pt, which `edge-mrcnn train` writes"


def load_checkpoint(path: str | Path, origin: Origin | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: A file of `save_checkpoint`; "people" for the bundled model; weights of torchvision's
            `maskrcnn_resnet50_fpn` or `maskrcnn_resnet50_fpn_v2`, in the record of any training loop, or "torchvision:"
            and one of these names; a Mask R-CNN of Detectron2 or MMDetection on a ResNet-50 or ResNet-101 FPN.
        origin: Information that the file of another project does not contain: its configuration, its class names.

    Raises:
        MissingFileError: If there is no such file.
        ModelFileError: If it is damaged or not a checkpoint.
        UsageError: If torchvision has no such Mask R-CNN, or the configuration is of another project.
        DataError: If the number of class names differs from that of the classes.
    """
    path = locate(path)
    if (path / "saved_model.pb").is_file():
        raise ModelFileError(f"{path}: a SavedModel of TensorFlow; expected a checkpoint of `edge-mrcnn train`")
    if not path.is_file():
        raise MissingFileError(f"{path}: {_say_missing(path)}")
    _check_own_seal(path)
    record = read_record(path)
    is_ours = isinstance(record, dict) and record.get("format") == FORMAT
    try:
        return _restore_own(record) if is_ours else _restore_foreign(path, record, origin or Origin())
    except (MissingFileError, ModelFileError, DataError):
        raise
    except Exception as error:  # any exception that a manipulated file can cause
        if isinstance(error, UsageError) and not is_ours:
            raise  # the error is about an option such as --config, not about the file
        raise ModelFileError(f"{path}: not a whole checkpoint ({one_line(error)})") from error


def _restore_foreign(path: Path, record: Any, origin: Origin) -> Checkpoint:
    found = import_torchvision(path, record) or import_record(path, record, origin)
    if found is None:
        raise ModelFileError(
            f"{path}: expected a checkpoint of `edge-mrcnn train` or a Mask R-CNN of torchvision, Detectron2 or "
            f"MMDetection; {name_foreign(record)}"
        )
    for note in found.notes:
        log.warning("%s: %s", path.name, note)
    checkpoint = _restore_imported(found)
    return rename_classes(checkpoint, origin.classes, origin.category_ids) if origin.classes else checkpoint


def _restore_imported(found: Imported) -> Checkpoint:
    state = {name: _as_computed(value) for name, value in found.state.items()}
    model = restore_model(found.config, len(found.classes), state)
    return Checkpoint(
        model=model, config=found.config, classes=found.classes, category_ids=found.category_ids,
        training=found.training,
    )  # fmt: skip


def _restore_own(record: dict[str, Any]) -> Checkpoint:
    config = ModelConfig.from_dict(record["config"])
    classes, category_ids = tuple(record["classes"]), tuple(record["category_ids"])
    state = {name: _as_computed(value) for name, value in record["state_dict"].items()}
    model = restore_model(config, len(classes), state)
    scores = model.roi_heads.box_predictor.cls_score.out_features - 1
    if not len(classes) == len(category_ids) == scores:
        raise ValueError(f"{len(classes)} class names, {len(category_ids)} category ids, weights for {scores} classes")
    return Checkpoint(
        model=model, config=config, classes=classes, category_ids=category_ids, training=record["training"]
    )


def _as_computed(value: Tensor) -> Tensor:
    """A weight in the precision for computation."""
    return value.float() if value.is_floating_point() else value


def restore_model(config: ModelConfig, num_classes: int, state: dict[str, Tensor]) -> MaskRCNN:
    """A model of these parts with these weights and their widths, in eval mode."""
    model = build_model(config, num_classes)
    fit_widths(model, state)
    model.load_state_dict(state)
    return model.eval()


def file_sha256(path: str | Path) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def fit_widths(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Set the width of each convolution, linear and BatchNorm layer to that in `state`, in place."""
    for name, module in model.named_modules():
        weight = state.get(f"{name}.weight")
        if weight is None or getattr(module, "weight", None) is None or module.weight.shape == weight.shape:
            continue
        _resize(module, weight)
    _sync_attributes(model)


def _resize(module: nn.Module, weight: Tensor) -> None:
    for key, value in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if key == "weight":
            module.weight = nn.Parameter(torch.empty_like(weight))
        elif value.dim() == 1:
            size = weight.shape[1] if isinstance(module, nn.ConvTranspose2d) else weight.shape[0]
            resized = torch.empty(size, dtype=value.dtype)
            setattr(module, key, nn.Parameter(resized) if isinstance(value, nn.Parameter) else resized)
    _state_widths(module, weight)


def _state_widths(module: nn.Module, weight: Tensor) -> None:
    """Update the attributes with a layer's widths to those of its weight."""
    if isinstance(module, nn.ConvTranspose2d):
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1]
    elif isinstance(module, nn.Conv2d):
        if module.groups > 1:  # depthwise: one group per channel
            module.groups = weight.shape[0]
        module.in_channels, module.out_channels = weight.shape[1] * module.groups, weight.shape[0]
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = weight.shape[1], weight.shape[0]
    elif isinstance(module, nn.BatchNorm2d):
        module.num_features = weight.shape[0]


def _sync_attributes(model: MaskRCNN) -> None:
    """Update the pyramid's width; after pruning it is that of its last convolutions."""
    layer = next(m for m in model.backbone.fpn.layer_blocks[0].modules() if isinstance(m, nn.Conv2d))
    model.backbone.out_channels = layer.out_channels

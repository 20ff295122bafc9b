"""COCO data as training samples: letterboxed, augmented, with targets in torchvision's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.data.augment import jitter_color, paste_objects, random_view
from edge_mrcnn.data.coco import CocoData, decode_mask
from runtimes.errors import DataError
from runtimes.preprocess import read_image

MIN_VISIBLE_PX = 16
"""Objects of which augmentation leaves fewer pixels than this are not trained on."""

Sample = tuple[Tensor, dict[str, Tensor]]


class InstanceDataset:
    """Samples of a data set: a random view per index and epoch, the same on every run of a seed.

    Crowd regions are left out of the targets; they have no single outline.
    """

    def __init__(
        self, data: CocoData, image_size_hw: tuple[int, int], pad_rgb: tuple[int, int, int], config: TrainConfig
    ) -> None:
        self.data = data
        self.image_size_hw = image_size_hw
        self.pad_rgb = pad_rgb
        self.config = config
        self._labels = {category: label for label, category in enumerate(data.category_ids, start=1)}

    def __len__(self) -> int:
        return len(self.data.images)

    def view(self, epoch: int, index: int) -> Sample:
        """Image (3, H, W) uint8 RGB and targets: boxes (N, 4) xyxy, labels (N,) 1-based, masks (N, H, W) uint8."""
        rng = np.random.default_rng((self.config.seed, epoch, index))
        image, masks, labels = self._see(index, rng)
        if self.config.copy_paste and rng.random() < self.config.copy_paste:
            source, source_masks, source_labels = self._see(int(rng.integers(len(self))), rng)
            image, masks, chosen = paste_objects(image, masks, source, source_masks, rng)
            labels = np.concatenate([labels, source_labels[chosen]])
        image = jitter_color(image, self.config.color_jitter, rng)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), make_target(masks, labels)

    def _see(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A random view of an image: canvas, masks and labels."""
        image, masks, labels = self._load(index)
        return *random_view(image, masks, self.image_size_hw, self.pad_rgb, self.config, rng), labels

    def _load(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        record = self.data.images[index]
        image = read_image(record.path)
        annotations = [a for a in self.data.annotations(record.id) if not a["iscrowd"]]
        masks = np.zeros((len(annotations), *image.shape[:2]), np.uint8)
        for mask, annotation in zip(masks, annotations, strict=True):
            decoded = decode_mask(annotation)
            if decoded.shape != mask.shape:
                raise _size_error(record.path, decoded.shape, mask.shape)
            mask[:] = decoded
        labels = np.array([self._labels[a["category_id"]] for a in annotations], np.int64)
        return image, masks, labels


def make_target(masks: np.ndarray, labels: np.ndarray) -> dict[str, Tensor]:
    """Boxes from masks; objects that are hardly visible are dropped.

    Args:
        masks: (N, H, W) uint8 of 0 and 1.
        labels: (N,) int64.
    """
    visible = masks.sum((1, 2)) >= MIN_VISIBLE_PX
    masks, labels = np.ascontiguousarray(masks[visible]), labels[visible]
    boxes = np.array([_box(mask) for mask in masks], np.float32).reshape(-1, 4)
    return {
        "boxes": torch.from_numpy(boxes),
        "labels": torch.from_numpy(labels),
        "masks": torch.from_numpy(masks),
    }


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The box around a mask in pixel edges: x1 and y1 are one past the last pixel."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def collate(samples: list[Sample]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Images (B, 3, H, W) and a list of targets."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), list(targets)


def _size_error(path: Path, expected: tuple[int, ...], got: tuple[int, ...]) -> DataError:
    return DataError(f"{path}: the annotation says {expected[1]}x{expected[0]} pixels, the file has {got[1]}x{got[0]}")

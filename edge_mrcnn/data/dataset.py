"""COCO data as training samples: letterboxed, augmented, with targets for the losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.data.augment import Placing, jitter_color, paste_objects
from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.data.outlines import Part, cut_mask
from edge_mrcnn.data.targets import Target, make_target
from runtimes.errors import DataError
from runtimes.preprocess import read_image

LARGE_PX = 32_000_000
"""Images with more pixels are decoded at a half, a quarter or an eighth of their sides if the view is that small."""

Sample = tuple[Tensor, Target]


class InstanceDataset:
    """Samples of a data set: a random view per index and epoch, the same in every run with the same seed.

    Crowd regions are left out of the targets; they have no single outline. For an object with only a box, the box is
    scaled and cut like a mask of that shape, and its target is marked as having no mask.
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
        """Image (3, H, W) uint8 RGB and its targets; memory depends on the image and the view."""
        rng = np.random.default_rng((self.config.seed, epoch, index))
        image, parts, labels, has_mask = self._see(index, rng)
        if self.config.copy_paste and rng.random() < self.config.copy_paste:
            other = int(rng.integers(len(self)))
            source, source_parts, source_labels, is_outlined = self._see(other, rng)
            image, parts, chosen = paste_objects(image, parts, source, source_parts, rng, is_outlined)
            labels = np.concatenate([labels, source_labels[chosen]])
            has_mask = np.concatenate([has_mask, is_outlined[chosen]])
        image = jitter_color(image, self.config.color_jitter, rng)
        channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
        return torch.from_numpy(channels_first), make_target(parts, labels, has_mask)

    def _see(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Part], np.ndarray, np.ndarray]:
        """A random view of an image: canvas (H, W, 3), the N visible masks, their labels (N,), and whether each is a
        mask instead of only a box (N,)."""
        record = self.data.images[index]
        placing = Placing.choose((record.height, record.width), self.image_size_hw, self.config, rng)
        image = _read(record, placing)
        parts, labels, has_mask = [], [], []
        for annotation in self.data.objects(record.id):
            if annotation["iscrowd"]:
                continue
            outline = annotation["segmentation"]
            step = placing.mask_step
            whole = fill_box(annotation["bbox"], record, step) if outline is None else cut_mask(outline, step)
            if not whole.mask.size:
                continue
            part = placing.place_mask(whole)
            if part is None:
                continue
            parts.append(part)
            labels.append(self._labels[annotation["category_id"]])
            has_mask.append(outline is not None)
        canvas = placing.place_image(image, self.pad_rgb)
        return canvas, parts, np.array(labels, np.int64), np.array(has_mask, bool)


def fill_box(box_xywh: Sequence[float], record: CocoImage, step: int = 1) -> Part:
    """The pixels of a box in its image, all 1; only every `step`-th pixel in each direction."""
    x, y, width, height = box_xywh
    left = max(0, math.floor(x)) // step
    top = max(0, math.floor(y)) // step
    right = math.ceil(min(record.width, x + width) / step)
    bottom = math.ceil(min(record.height, y + height) / step)
    size_hw = (max(0, bottom - top), max(0, right - left))
    return Part(left, top, np.ones(size_hw, np.uint8))


def _read(record: CocoImage, placing: Placing) -> np.ndarray:
    """The image (h, w, 3) uint8 RGB; a very large one is decoded at a smaller size if its view is small.

    Raises:
        DataError: If its size differs from the annotation.
    """
    shrink = 1
    if record.width * record.height > LARGE_PX:
        while shrink < 8 and 2 * shrink * max(placing.scale_yx) <= 1:
            shrink *= 2
    image = read_image(record.path, shrink=shrink)
    height, width = image.shape[:2]
    off_y = abs(height - record.height / shrink)
    off_x = abs(width - record.width / shrink)
    if max(off_y, off_x) >= 1:  # decoders round half of an odd side up or down
        raise _size_error(record.path, (record.height, record.width), (height * shrink, width * shrink))
    return image


def collate(samples: list[Sample]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Images (B, 3, H, W) and a list of targets."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), list(targets)


def _size_error(path: Path, expected: tuple[int, int], got: tuple[int, int]) -> DataError:
    """Both sizes are height and width."""
    height, width = expected
    got_height, got_width = got
    return DataError(f"{path}: the annotation says {width}x{height} pixels, the file has {got_width}x{got_height}")

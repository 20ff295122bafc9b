"""COCO data as training samples: letterboxed, augmented, with targets for the losses."""

from __future__ import annotations

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
"""Pictures of more pixels are decoded at a half, a quarter or an eighth of their sides where the view is as small."""

Sample = tuple[Tensor, Target]


class InstanceDataset:
    """Samples of a data set: a random view per index and epoch, the same on every run of a seed.

    Crowd regions are left out of the targets; they have no single outline. So are objects that have only a box.
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
        """Image (3, H, W) uint8 RGB and what is in it; memory follows the picture and the view."""
        rng = np.random.default_rng((self.config.seed, epoch, index))
        image, parts, labels = self._see(index, rng)
        if self.config.copy_paste and rng.random() < self.config.copy_paste:
            source, source_parts, source_labels = self._see(int(rng.integers(len(self))), rng)
            image, parts, chosen = paste_objects(image, parts, source, source_parts, rng)
            labels = np.concatenate([labels, source_labels[chosen]])
        image = jitter_color(image, self.config.color_jitter, rng)
        channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
        return torch.from_numpy(channels_first), make_target(parts, labels)

    def _see(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, list[Part], np.ndarray]:
        """A random view of an image: canvas (H, W, 3), the N masks that are seen, and their labels (N,)."""
        record = self.data.images[index]
        placing = Placing.choose((record.height, record.width), self.image_size_hw, self.config, rng)
        image = _read(record, placing)
        parts, labels = [], []
        for annotation in self.data.annotations(record.id):
            if annotation["iscrowd"]:
                continue
            part = placing.place_mask(cut_mask(annotation["segmentation"]))
            if part is not None:
                parts.append(part)
                labels.append(self._labels[annotation["category_id"]])
        return placing.place_image(image, self.pad_rgb), parts, np.array(labels, np.int64)


def _read(record: CocoImage, placing: Placing) -> np.ndarray:
    """The picture (h, w, 3) uint8 RGB; a very large one smaller, if its view is.

    Raises:
        DataError: If it has another size than annotated.
    """
    shrink = 1
    if record.width * record.height > LARGE_PX:
        shrink = max(factor for factor in (1, 2, 4, 8) if factor == 1 or factor * max(placing.scale_yx) <= 1)
    image = read_image(record.path, shrink=shrink)
    height, width = -(-record.height // shrink), -(-record.width // shrink)
    if image.shape[:2] != (height, width):
        raise _size_error(record.path, (height, width), image.shape)
    return image


def collate(samples: list[Sample]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Images (B, 3, H, W) and a list of targets."""
    images, targets = zip(*samples, strict=True)
    return torch.stack(images), list(targets)


def _size_error(path: Path, expected: tuple[int, ...], got: tuple[int, ...]) -> DataError:
    return DataError(f"{path}: the annotation says {expected[1]}x{expected[0]} pixels, the file has {got[1]}x{got[0]}")

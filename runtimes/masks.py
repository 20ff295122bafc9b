"""The boxes and masks of one image; derived forms are computed when they are first used."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.contours import find_largest, measure_masks, trace_masks
from runtimes.postprocess import Region, fill_dense, paste_mask
from runtimes.run_lengths import encode_masks

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes under the names that other tools use."""

    xyxy: Array
    """(N, 4) float32, x0 y0 x1 y1 in pixels of the source image."""
    conf: Array
    """(N,) float32 scores in [0, 1]."""
    cls: Array
    """(N,) int64 labels, 0-based."""
    id: Array | None = None
    """(N,) int64 track numbers."""
    orig_shape: tuple[int, int] = (1, 1)
    """Height and width of the source image, in pixels."""

    def __len__(self) -> int:
        return len(self.xyxy)

    @property
    def xywh(self) -> Array:
        """(N, 4) float32, x y of the centre, width and height, in pixels."""
        corner, opposite = self.xyxy[:, :2], self.xyxy[:, 2:]
        return np.concatenate([(corner + opposite) / 2, opposite - corner], axis=1)

    @property
    def xyxyn(self) -> Array:
        """(N, 4) float32, as `xyxy`, in shares of the image's width and height."""
        return self.xyxy / self._size_xyxy

    @property
    def xywhn(self) -> Array:
        """(N, 4) float32, as `xywh`, in shares of the image's width and height."""
        return self.xywh / self._size_xyxy

    @property
    def _size_xyxy(self) -> Array:
        """(4,) float32: width, height, width, height."""
        return np.array(self.orig_shape[::-1] * 2, np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class Masks:
    """Masks at the resolution of the source image: as pixels or polygons, each computed when it is used."""

    probs: Array
    """(N, M, M) float32 in [0, 1], the probability of each cell of the frame."""
    frames_xyxy: Array
    """(N, 4) float32, the box that each mask fills, x0 y0 x1 y1 in pixels of the source image."""
    image_size_hw: tuple[int, int]
    """Height and width of the source image, in pixels."""

    def __len__(self) -> int:
        return len(self.probs)

    def __repr__(self) -> str:
        height, width = self.image_size_hw
        return f"Masks({len(self)} of {self.probs.shape[-1]} x {self.probs.shape[-1]}, image {width} x {height})"

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and copies: only the given arrays, without derived ones."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The pixels of each mask, computed once; the rest of the image is empty."""
        pairs = zip(self.probs, self.frames_xyxy, strict=True)
        return tuple(paste_mask(probs, frame, self.image_size_hw) for probs, frame in pairs)

    @cached_property
    def contours(self) -> list[list[Array]]:
        """The contours of each mask, (K, 2) float32 x y in pixels, holes the other way around; see `trace_masks`."""
        return trace_masks(self.probs, self.frames_xyxy, self.image_size_hw)

    @cached_property
    def data(self) -> Array:
        """(N, H, W) bool, dense: N times the size of the image."""
        return fill_dense(self.regions, self.image_size_hw)

    @cached_property
    def rle(self) -> list[dict[str, Any]]:
        """N compressed COCO run-length encodings, `{"size": [H, W], "counts": str}`, made without pixels."""
        return encode_masks(self.probs, self.frames_xyxy, self.image_size_hw)

    @cached_property
    def xy(self) -> list[Array]:
        """N outlines, each (K, 2) float32 in pixels: the largest part of the mask; K is 0 when it is empty."""
        return [find_largest(rings) for rings in self.contours]

    @property
    def xyn(self) -> list[Array]:
        """As `xy`, in shares of the image's width and height."""
        size = np.array(self.image_size_hw[::-1], np.float32)
        return [outline / size for outline in self.xy]

    @property
    def areas(self) -> Array:
        """(N,) float64, the area inside the contours of each mask, in square pixels of the source image.

        It is computed without pixels; the number of a mask's pixels differs by about 1 %.
        """
        return self._measures[0]

    @property
    def area_shares(self) -> Array:
        """(N,) float64 in [0, 1], the area of each mask as a share of the image."""
        height, width = self.image_size_hw
        shares: Array = self.areas / (height * width)
        return shares

    @property
    def centroids(self) -> Array:
        """(N, 2) float64, x y in pixels: the centroid of each mask; that of its box if the mask is empty."""
        return self._measures[1]

    @cached_property
    def _measures(self) -> tuple[Array, Array]:
        """Areas and centroids."""
        areas, centroids = measure_masks(self.probs, self.frames_xyxy, self.image_size_hw)
        middles = (self.frames_xyxy[:, :2] + self.frames_xyxy[:, 2:]) / 2
        return areas, np.where(areas[:, None] > 0, centroids, middles)

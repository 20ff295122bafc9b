"""The result of every runtime: the detections of one image.

Masks stay M x M until they are drawn or evaluated. Besides its own names, `Detections` has those that other tools use
(`.boxes.xyxy`, `.masks.data`, `.names`, `.orig_shape`, `.speed`, `.plot()`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.draw import draw_detections
from runtimes.errors import UsageError
from runtimes.masks import Boxes, Masks
from runtimes.names import ClassName, choose_classes
from runtimes.output_paths import free_path
from runtimes.pictures import Picture, as_rgb, open_picture, show_image, write_image
from runtimes.records import convert_to_supervision, list_coco_results, summarize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtimes.preprocess import Order

    Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Detections:
    """The detections of one image, sorted by score; may be empty."""

    boxes_xyxy: Array
    """(N, 4) float32, x0 y0 x1 y1 in pixels of the source image."""
    scores: Array
    """(N,) float32 in [0, 1]."""
    labels: Array
    """(N,) int64, 0-based index into `names`."""
    mask_probs: Array
    """(N, M, M) float32 in [0, 1], the probability of each cell of the box."""
    image_size_hw: tuple[int, int]
    """Height and width of the source image, in pixels."""
    names: tuple[str, ...]
    """Class names."""
    category_ids: tuple[int, ...]
    """The data set's category id of each class."""
    mask_offset_xy: tuple[float, float] = (0.0, 0.0)
    """Offset from a box to the frame of its mask, in pixels; see `ModelCard.mask_offset`."""
    speed_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage: preprocess, inference, postprocess."""
    ids: Array | None = None
    """(N,) int64 track numbers, -1 for none yet; None without a tracker."""
    path: str | None = None
    """The image file that was inferred, if the input was a file."""

    def __post_init__(self) -> None:
        count = len(self.scores)
        side = self.mask_probs.shape[-1]
        expect_shape("scores", self.scores, (count,))
        expect_shape("boxes_xyxy", self.boxes_xyxy, (count, 4))
        expect_shape("labels", self.labels, (count,))
        expect_shape("mask_probs", self.mask_probs, (count, side, side))
        if self.ids is not None:
            expect_shape("ids", self.ids, (count,))
        if len(self.names) != len(self.category_ids):
            raise ValueError(f"expected one category id per name, got {len(self.names)} and {len(self.category_ids)}")

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        counts = Counter(self.class_names)
        what = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
        height, width = self.image_size_hw
        return f"Detections({what}; image {width} x {height})"

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and copies: only the given arrays, without derived ones."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __getitem__(self, index: int | slice | Array | list[int]) -> Detections:
        """The selected rows: one row, a slice, a list of rows or a boolean mask; always returns `Detections`."""
        rows = [index] if isinstance(index, (int, np.integer)) else index
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            mask_probs=self.mask_probs[rows],
            ids=None if self.ids is None else self.ids[rows],
        )

    def __iter__(self) -> Iterator[Detections]:
        return (self[row] for row in range(len(self)))

    def filter(
        self,
        *,
        classes: ClassName | Sequence[ClassName] | None = None,
        exclude: ClassName | Sequence[ClassName] | None = None,
        conf: float = 0.0,
        min_area: float = 0.0,
    ) -> Detections:
        """The detections that satisfy all conditions.

        Args:
            classes: Names or 0-based labels of the kept classes; all if None.
            exclude: Names or labels of classes to remove.
            conf: Score threshold, in [0, 1].
            min_area: Minimum area of a mask, in pixels.

        Raises:
            UsageError: If a class is not one of the model's.
        """
        keep = (self.scores >= conf) & choose_classes(self.names, classes, exclude)[self.labels]
        if min_area > 0:
            keep &= self.masks.areas >= min_area
        return self[keep]

    @property
    def class_names(self) -> list[str]:
        """N names, one per row."""
        return [self.names[label] for label in self.labels.tolist()]

    @property
    def boxes(self) -> Boxes:
        """Boxes, scores, labels and track numbers."""
        return Boxes(self.boxes_xyxy, self.scores, self.labels, self.ids, self.image_size_hw)

    @cached_property
    def masks(self) -> Masks:
        """Masks in the source image."""
        frames = self.boxes_xyxy + np.array(self.mask_offset_xy * 2, dtype=np.float32)
        return Masks(self.mask_probs, frames, self.image_size_hw)

    @property
    def orig_shape(self) -> tuple[int, int]:
        """Height and width of the source image, in pixels."""
        return self.image_size_hw

    @property
    def speed(self) -> dict[str, float]:
        """Milliseconds by stage."""
        return self.speed_ms

    @property
    def areas(self) -> Array:
        """(N,) float64, the area of each mask in square pixels; see `Masks.areas`."""
        return self.masks.areas

    def plot(self, image: Picture | None = None, *, order: Order = "rgb") -> Array:
        """A copy of the image with the detections drawn on it.

        Args:
            image: (H, W, 3) uint8, the path of a file or a PIL image; the inferred file if None.
            order: Channel order of an array; the copy has the same.

        Returns:
            (H, W, 3) uint8.

        Raises:
            UsageError: If there is no image, or its size differs from the inferred one.
        """
        return self._draw(image, order)[0]

    def save(
        self, path: str | Path, image: Picture | None = None, *, order: Order = "rgb", overwrite: bool = False
    ) -> Path:
        """Write the image with the detections drawn on it.

        Args:
            path: An image file; its folder is made. An existing file is kept, and the new one gets a number.
            image: As of `plot`.
            order: As of `plot`.
            overwrite: Whether an existing file is replaced.

        Returns:
            The path that was written.

        Raises:
            UsageError: As `plot`.
            UnavailableError: If the file cannot be written.
        """
        picture = as_rgb(*self._draw(image, order))
        place = free_path(Path(path), overwrite=overwrite)
        write_image(place, picture)
        return place

    def show(self, image: Picture | None = None, *, order: Order = "rgb") -> None:
        """Show the image with the detections drawn on it: in a notebook, or by a viewer or window of this machine.

        Args:
            image: As of `plot`.
            order: As of `plot`.

        Raises:
            UsageError: As `plot`.
            MissingExtraError: If no viewer is installed.
        """
        show_image(as_rgb(*self._draw(image, order)))

    def _draw(self, image: Picture | None, order: Order) -> tuple[Array, Order]:
        """A drawn copy of the image, and its channel order."""
        source = self.path if image is None else image
        if source is None:
            raise UsageError("expected the image to draw on, because the input was not a file: found.plot(image)")
        pixels, found_order = open_picture(source, order)
        if pixels.shape[:2] != self.image_size_hw:
            height, width = self.image_size_hw
            came = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise UsageError(f"expected the image that was inferred, {width} x {height} pixels, got {came}")
        return draw_detections(pixels.copy(), self, order=found_order), found_order

    def summary(self, *, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """One record per object, with the names that other tools use.

        Args:
            normalize: Whether coordinates are shares of the image's width and height, instead of pixels.
            decimals: Number of decimal places.

        Returns:
            Records of `name`, `class` (0-based label), `confidence`, `box` (x1 y1 x2 y2), `segments` (x and y of the
            outline), and the mask's `area` (pixels), `area_share` (of the image) and `centroid` (x y in pixels); with
            `track_id` where a tracker gave the object a number.
        """
        return summarize(self, normalize=normalize, decimals=decimals)

    def to_json(self, *, normalize: bool = False, decimals: int = 5) -> str:
        """`summary` as JSON."""
        return json.dumps(self.summary(normalize=normalize, decimals=decimals))

    def to_supervision(self, *, compact: bool = True) -> Any:
        """The detections as `supervision.Detections`.

        Args:
            compact: Whether masks stay run lengths (`supervision.CompactMask`), which take kilobytes. Otherwise, and
                with older versions of supervision, they are dense: N times the size of the image.

        Raises:
            MissingExtraError: If supervision is not installed.
        """
        return convert_to_supervision(self, compact=compact)

    def to_coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """COCO results: one record per detection, with the data set's own category ids.

        Returns:
            Records of `image_id`, `category_id`, `category_name`, `bbox` (x y w h in pixels), `score`, `segmentation`
            (compressed RLE), and the mask's `area` (pixels), `area_share` (of the image) and `centroid` (x y in
            pixels), ready for `json.dump`; with `track_id` where a tracker gave the object a number.
        """
        return list_coco_results(self, image_id)


def expect_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError with both shapes unless `array` has this one."""
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")

"""What every runtime answers: the live detections of one image.

Masks stay M x M until someone draws or evaluates them. Besides its own names, `Detections` answers the ones that
people know from other tools (`.boxes.xyxy`, `.masks.data`, `.names`, `.orig_shape`, `.speed`, `.plot()`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.draw import draw_detections
from runtimes.errors import MissingExtraError
from runtimes.masks import Boxes, Masks
from runtimes.names import ClassName, choose_classes
from runtimes.records import list_coco_results

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtimes.preprocess import Order

    Array = NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections:
    """The objects found in one image, sorted by score; empty when nothing was found."""

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
    """The data set's own category id of each class."""
    mask_offset_xy: tuple[float, float] = (0.0, 0.0)
    """What to add to a box to get the frame that its mask fills, in pixels; see `ModelCard.mask_offset`."""
    speed_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds by stage: preprocess, inference, postprocess."""
    ids: Array | None = None
    """(N,) int64 numbers that stay with an object from frame to frame, -1 for none yet; None without a tracker."""

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

    def __getitem__(self, index: int | slice | Array | list[int]) -> Detections:
        """The chosen rows: one row, a slice, a list of rows or a boolean mask; always `Detections` again."""
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
        """The rows that count.

        Args:
            classes: Names or 0-based labels of those that stay; all if None.
            exclude: Names or labels of those that go.
            conf: Lowest score that stays, in [0, 1].
            min_area: Smallest area of a mask that stays, in pixels.

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
        """Boxes, scores, labels and numbers together."""
        return Boxes(self.boxes_xyxy, self.scores, self.labels, self.ids)

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

    def plot(self, image: Array, *, order: Order = "rgb") -> Array:
        """A copy of the (H, W, 3) uint8 image with the detections drawn on it, in its own order of channels."""
        picture: Array = draw_detections(image.copy(), self, order=order)
        return picture

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`, with dense masks.

        Raises:
            MissingExtraError: If supervision is not installed.
        """
        try:
            import supervision
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"to_supervision needs {error.name}: pip install supervision") from error
        names = np.array(self.class_names, dtype=object)
        return supervision.Detections(
            xyxy=self.boxes_xyxy,
            confidence=self.scores,
            class_id=self.labels,
            mask=self.masks.data,
            tracker_id=self.ids,
            data={"class_name": names},
        )

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
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

"""The drop in AP of a model against its reference, and a meter for searches that need it repeatedly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import runtimes
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.evaluate import Evaluation, evaluate
from runtimes.errors import DataError
from runtimes.progress import Progress, named

Interval = tuple[float, float]

USABLE_AP = 0.05
"""AP, in [0, 1], below which a reference model is too poor for a drop from it to have a meaning."""

SMALL_CHANGE = 0.005
"""Half a point of AP, in [0, 1]: the change that a report should tell from none."""


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Drop in AP against the reference."""

    value: float
    """Reference's AP minus this model's, in [-1, 1]; negative is a gain."""
    interval: Interval
    """95 % confidence interval of the drop, from resampled image sets; nan if nothing can be resampled."""

    def exceeds(self, limit: float) -> bool:
        """Whether the drop is larger than allowed; a drop that cannot be measured counts as too large."""
        return not self.value <= limit + 1e-9

    @property
    def half_width(self) -> float:
        """How far the interval reaches to either side on average, in [0, 1]; nan where there is none."""
        low, high = self.interval
        return (high - low) / 2

    def images_to_see(self, images: int, change: float = SMALL_CHANGE) -> int | None:
        """How many images it takes for an interval of at most `change` to either side.

        The width of an interval falls with the square root of the number of images.

        Args:
            images: How many gave this interval.
            change: In AP, in [0, 1].

        Returns:
            At least 1; None where there is no interval.
        """
        if math.isnan(self.half_width):
            return None
        times = (self.half_width / change) ** 2
        return max(1, math.ceil(images * times - 1e-9))


def is_usable(box_ap: float, mask_ap: float) -> bool:
    """Whether a drop can be measured against a model with this AP."""
    return max(box_ap, mask_ap) >= USABLE_AP


def say_unusable(name: object, box_ap: float, mask_ap: float) -> str:
    """Why no drop can be measured against a model, in words."""
    return (
        f"{name} cannot be the reference: its AP is too low (box AP {100 * box_ap:.1f}, mask AP {100 * mask_ap:.1f}); "
        "train it longer, or check that the data shows its classes"
    )


class DropMeter:
    """Evaluates the FP32 model once, and then every model to compare with it."""

    def __init__(self, reference: Path, data: CocoData, limit: int | None, progress: Progress) -> None:
        """Evaluate the reference.

        Args:
            reference: The FP32 model.
            data: Images and ground truth.
            limit: Maximum number of images.
            progress: Called after each image, with the name of the model.

        Raises:
            DataError: If its AP is too low.
        """
        self._data = data
        self._limit = limit
        self._progress = progress
        self._reference = self._evaluate(reference)
        box_ap, mask_ap = self._reference.box.ap, self._reference.mask.ap
        if not is_usable(box_ap, mask_ap):
            raise DataError(say_unusable(reference, box_ap, mask_ap))

    def measure(self, path: Path) -> float:
        """Drop in AP of a model, the larger of box and mask AP, from 0 to 1; negative for a gain."""
        found = self._evaluate(path)
        return max(self._reference.box.ap - found.box.ap, self._reference.mask.ap - found.mask.ap)

    def _evaluate(self, path: Path) -> Evaluation:
        with runtimes.load(path, threads=1) as runtime:
            return evaluate(runtime, self._data, limit=self._limit, progress=named(self._progress, path.name))

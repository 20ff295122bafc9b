"""The AP that a model loses to its reference, and a meter of it for searches that ask again and again."""

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
"""AP, in [0, 1], below which a model finds almost nothing, so that no drop from it means anything."""

SMALL_CHANGE = 0.005
"""Half a point of AP, in [0, 1]: the change that a report should tell from none."""


@dataclass(frozen=True, kw_only=True)
class Drop:
    """AP lost against the reference."""

    value: float
    """Reference's AP minus this model's, in [-1, 1]; negative is a gain."""
    interval: Interval
    """95 % of resampled image sets give a drop between these; nan where nothing can be resampled."""

    def exceeds(self, limit: float) -> bool:
        """Whether more is lost than allowed; a drop that cannot be measured counts as too much."""
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
    """Whether a drop can be counted from a model of this AP."""
    return max(box_ap, mask_ap) >= USABLE_AP


def say_unusable(name: object, box_ap: float, mask_ap: float) -> str:
    """Why no drop can be counted from a model, in words."""
    return (
        f"{name} finds almost nothing (box AP {100 * box_ap:.1f}, mask AP {100 * mask_ap:.1f}), so no drop from it can "
        "be judged: train it longer, or check that the data shows its classes"
    )


class DropMeter:
    """Evaluates the FP32 model once and then whatever is compared with it."""

    def __init__(self, reference: Path, data: CocoData, limit: int | None, progress: Progress) -> None:
        """Evaluate the reference.

        Args:
            reference: The FP32 artefact.
            data: Images and truth.
            limit: Images at most.
            progress: Told after each image, under the name of the artefact.

        Raises:
            DataError: If it finds almost nothing.
        """
        self._data = data
        self._limit = limit
        self._progress = progress
        self._reference = self._evaluate(reference)
        box_ap, mask_ap = self._reference.box.ap, self._reference.mask.ap
        if not is_usable(box_ap, mask_ap):
            raise DataError(say_unusable(reference, box_ap, mask_ap))

    def measure(self, path: Path) -> float:
        """AP that an artefact loses, the larger of boxes and masks, from 0 to 1; below 0 where it gains."""
        found = self._evaluate(path)
        return max(self._reference.box.ap - found.box.ap, self._reference.mask.ap - found.mask.ap)

    def _evaluate(self, path: Path) -> Evaluation:
        with runtimes.load(path, threads=1) as runtime:
            return evaluate(runtime, self._data, limit=self._limit, progress=named(self._progress, path.name))

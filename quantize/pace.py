"""Estimate of the duration of a calibration, logged as soon as it is known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")

WORTH_SAYING_S = 60.0
"""Minimum expected duration in seconds that is logged."""


def tell_pace(
    pictures: Iterable[Item], count: int, name: str, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Item]:
    """Pass images on, and log after the first one how long all of them will take, if that is a minute or more.

    Args:
        pictures: Images of a calibration, one after another.
        count: Maximum number of images.
        name: Name of the model, for the message.
        clock: Clock in seconds; for tests.
    """
    start = clock()
    for number, picture in enumerate(pictures):
        if number == 1:  # the first image has been processed
            expected_s = count * (clock() - start)
            if expected_s >= WORTH_SAYING_S:
                log.warning(
                    "%s: calibrating with %d images takes about %.0f min; to shorten it, use fewer --calib-images, or "
                    "export with fewer --proposals and --max-det",
                    name, count, max(1.0, expected_s / 60),
                )  # fmt: skip
        yield picture

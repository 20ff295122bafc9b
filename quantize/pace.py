"""How long a calibration will take, said as soon as that is known."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")

WORTH_SAYING_S = 60.0
"""Seconds from which on an expected time is said."""


def tell_pace(
    pictures: Iterable[Item], count: int, name: str, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Item]:
    """Pass pictures on, and log after the first one how long all of them will take, where that is a minute or more.

    Args:
        pictures: What a calibration takes one after the other.
        count: How many there are at most.
        name: Of the model, for the message.
        clock: Seconds; for tests.
    """
    start = clock()
    for number, picture in enumerate(pictures):
        if number == 1:  # the first one is done
            expected_s = count * (clock() - start)
            if expected_s >= WORTH_SAYING_S:
                log.warning(
                    "%s: calibrating with %d pictures takes about %.0f min; fewer --calib-images, or a file with "
                    "fewer --proposals and --max-det, take less",
                    name, count, max(1.0, expected_s / 60),
                )  # fmt: skip
        yield picture

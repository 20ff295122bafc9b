"""How a frame's stages are timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]
"""Seconds."""

CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""`cpu` adds up the processor time of all threads: on a busy machine it is close to the time of one thread on a quiet
one."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Milliseconds of one frame."""

    network: float
    """The runtime alone, from input tensor to output tensors."""
    results: float
    """From the decoded frame to boxes, labels, scores and masks of each object in pixels, `network` included."""
    finished: float
    """Until the picture is drawn and the results are JSON, `results` included."""

"""One point of `benchmarks/growth.py`, in a process of its own, so that its peak memory is a runner's alone.

    python -m benchmarks.peers.point '{"file": "model.onnx", "seed": 0, "rounds": 15, "clock": "cpu"}'

It imports what a device has and nothing else, and prints JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import cv2

import runtimes
from benchmarks.peers.scene import draw_frame
from benchmarks.peers.timing import CLOCKS
from edge_mrcnn.benchmark.worker import peak_memory
from runtimes.preprocess import letterbox
from runtimes.sources.synthetic import SyntheticSource
from runtimes.stream import Stream


def time_network(model: runtimes.Runtime, seed: int, rounds: int, clock: str) -> dict[str, float]:
    """Median milliseconds of the network on one frame."""
    x, _ = letterbox(draw_frame(seed), model.card)
    tick, times = CLOCKS[clock], []
    for _ in range(rounds):
        start = tick()
        model.run(x)
        times.append(1e3 * (tick() - start))
    return {"ms": statistics.median(times)}


def watch_cameras(model: runtimes.Runtime, cameras: int, frames: int) -> dict[str, float]:
    """Frames per second of all cameras, the median age of a frame when its detections are there, and what it costs."""
    sources = {str(index): SyntheticSource("synthetic", seed=index) for index in range(cameras)}
    begin, spent, ages = time.perf_counter(), time.process_time(), []
    for frame, _ in islice(Stream(model, sources), frames):
        ages.append(1e3 * (time.monotonic() - frame.arrived))
    rate = frames / (time.perf_counter() - begin)
    return {"fps": rate, "ms": statistics.median(ages), "cpu_ms": 1e3 * (time.process_time() - spent) / frames}


def measure(order: Mapping[str, Any]) -> dict[str, float]:
    """The measurement of the point, and the peak memory in MB."""
    cv2.setNumThreads(1)
    with runtimes.load(order["file"], threads=1) as model:
        if "cameras" in order:
            found = watch_cameras(model, order["cameras"], order["frames"])
        else:
            found = time_network(model, order["seed"], order["rounds"], order["clock"])
    return {**found, "mb": peak_memory() / 2**20}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))

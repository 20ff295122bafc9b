"""The child process of a benchmark: opens one model, and times images on request.

It uses JSON, one line per message: requests on stdin, replies on the original stdout. No SDK is imported before the
processors are chosen, because thread pools read them when they start.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from runtimes.base import refusing
from runtimes.errors import EdgeError, one_line

Reply = dict[str, Any]


class OwnModel:
    """One of our files: all stages, from the frame to the drawn image."""

    def __init__(self, job: dict[str, Any]) -> None:
        import cv2

        import runtimes

        if job["threads"]:
            cv2.setNumThreads(job["threads"])
        self._runtime = runtimes.load(job["path"], threads=job["threads"] or None, **job["options"])
        self._conf = job["conf"]
        self._is_drawing = job["draw"]
        self.reply = {"card": json.loads(self._runtime.card.to_json()), "runs_as": self._runtime.describe()}

    def time(self, image: np.ndarray) -> tuple[dict[str, float], int]:
        """Milliseconds of each stage and in total, and the number of detections above the threshold."""
        from runtimes.draw import draw_detections

        canvas = image.copy()
        start = time.perf_counter()
        found = self._runtime.infer(image)
        found = found[found.scores >= self._conf]
        inferred = time.perf_counter()
        if not self._is_drawing:
            return {**found.speed_ms, "total": 1e3 * (inferred - start)}, len(found)
        draw_detections(canvas, found)
        end = time.perf_counter()
        return {**found.speed_ms, "draw": 1e3 * (end - inferred), "total": 1e3 * (end - start)}, len(found)


class Peer:
    """Another tool's model: only the network."""

    def __init__(self, job: dict[str, Any]) -> None:
        from edge_mrcnn.benchmark.foreign import open_net

        self._path = Path(job["path"])
        self._net = open_net(self._path, job["threads"])
        self._size_hw = tuple(job["size_hw"])
        self.reply = {"card": {}, "runs_as": {"input": self._describe_input(np.load(job["frames"][0]))}}

    def time(self, image: np.ndarray) -> tuple[dict[str, float], int]:
        """Milliseconds of the network."""
        from edge_mrcnn.benchmark.foreign import fill_ports

        with refusing(self._path, "the model does not run"):
            tensors = fill_ports(self._net.ports, image, self._size_hw)
            start = time.perf_counter()
            self._net.run(tensors)
            return {"inference": 1e3 * (time.perf_counter() - start)}, 0

    def _describe_input(self, image: np.ndarray) -> str:
        """Type and shape of the network's input for an image, such as "float32 1x3x640x640"."""
        from edge_mrcnn.benchmark.foreign import fill_ports

        with refusing(self._path, "the model does not run"):
            tensors = fill_ports(self._net.ports, image, self._size_hw)
        return ", ".join(f"{tensor.dtype} {'x'.join(map(str, tensor.shape))}" for tensor in tensors)


def main() -> None:
    """Handle requests until stdin ends."""
    replies = claim_stdout()
    job = json.loads(sys.stdin.readline())
    if job["cpus"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job["cpus"])
    try:
        start = time.perf_counter()
        model = (Peer if job["is_peer"] else OwnModel)(job)
        load_s = time.perf_counter() - start
        model.time(np.load(job["frames"][0]))
        send(replies, {**model.reply, "load_s": load_s, "peak_bytes": peak_memory()})
        for line in sys.stdin:
            send(replies, take_turn(model, job["frames"], **json.loads(line)))
    except (EdgeError, MemoryError) as error:
        send(replies, {"error": one_line(error) if isinstance(error, EdgeError) else "not enough memory"})


def take_turn(model: OwnModel | Peer, frames: list[str], *, warm_up: int, seconds: float = 0.0) -> Reply:
    """Time every frame once, or, if `seconds` are given, frames until so many have passed."""
    own = time.process_time()
    for index in range(warm_up):
        model.time(np.load(frames[index % len(frames)]))
    samples: list[dict[str, float]] = []
    objects = 0
    start = time.perf_counter()
    while len(samples) < len(frames) if not seconds else time.perf_counter() - start < seconds:
        times, found = model.time(np.load(frames[len(samples) % len(frames)]))
        samples.append(times)
        objects += found
    return {
        "samples": samples,
        "objects": objects / max(1, len(samples)),
        "cpu_s": time.process_time() - own,
        "wall_s": time.perf_counter() - start,
        "peak_bytes": peak_memory(),
    }


def peak_memory() -> int:
    """Peak memory of this process, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # macOS reports bytes
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def claim_stdout() -> TextIO:
    """Keep stdout for replies; output of libraries goes to stderr."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def send(replies: TextIO, reply: Reply) -> None:
    """Write one message."""
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()

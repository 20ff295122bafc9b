"""Speed, size and surroundings of models: what a table of accuracies needs beside it to be fair."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_mrcnn.report.evaluate import Percentiles, Progress, summarize_latency

PACKAGES = (
    "edge-mrcnn",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "openvino",
    "ai-edge-litert",
    "tflite-runtime",
    "torch",
    "torchvision",
    "pycocotools",
)
"""Whose versions decide a result."""


def measure_latency(
    runtimes: Sequence[Any],
    images: Sequence[np.ndarray],
    *,
    warm_up: int = 3,
    rounds: int = 3,
    progress: Progress | None = None,
) -> list[dict[str, Percentiles]]:
    """Time all runtimes in turn on each image, so that a busy minute of the machine slows all of them alike.

    Args:
        runtimes: Each with `infer`.
        images: (H, W, 3) uint8 RGB each, at least one.
        warm_up: Untimed calls of each runtime beforehand.
        rounds: How often each image is shown to each runtime; its median counts.
        progress: Told after each image.

    Returns:
        For each runtime its stages as it reports them, and "total": the wall time of `infer`, in milliseconds.
    """
    for runtime in runtimes:
        for _ in range(warm_up):
            runtime.infer(images[0])
    times: list[list[dict[str, float]]] = [[] for _ in runtimes]
    for done, image in enumerate(images, start=1):
        trials: list[list[dict[str, float]]] = [[] for _ in runtimes]
        for round_ in range(rounds):
            for index in _rotated(len(runtimes), by=done + round_):
                trials[index].append(_time(runtimes[index], image))
        for index, trial in enumerate(trials):
            times[index].append({stage: statistics.median(t[stage] for t in trial) for stage in trial[0]})
        if progress is not None:
            progress(done, len(images))
    return [_percentiles(t) for t in times]


def model_files(path: Path) -> tuple[Path, ...]:
    """All files of one model: OpenVINO keeps the weights beside the `.xml`."""
    weights = path.with_suffix(".bin")
    return (path, weights) if path.suffix == ".xml" and weights.is_file() else (path,)


def file_size(path: Path) -> int:
    """Bytes of all files of one model."""
    return sum(file.stat().st_size for file in model_files(path))


def file_sha256(path: Path) -> str:
    """Hash over all files of one model, in hexadecimal."""
    digest = hashlib.sha256()
    for file in model_files(path):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def describe_device() -> dict[str, str]:
    """The machine that measured: processor, cores, system, Python."""
    return {
        "processor": _processor(),
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        "system": f"{_system()}, {platform.machine()}",
        "python": platform.python_version(),
    }


def describe_packages(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _time(runtime: Any, image: np.ndarray) -> dict[str, float]:
    start = time.perf_counter()
    detections = runtime.infer(image)
    wall = (time.perf_counter() - start) * 1000.0
    return {**detections.speed_ms, "total": wall}


def _rotated(count: int, *, by: int) -> list[int]:
    """All indices, starting elsewhere each time: who runs second finds other caches than who runs first."""
    return [(index + by) % count for index in range(count)]


def _percentiles(times: Sequence[dict[str, float]]) -> dict[str, Percentiles]:
    stages = summarize_latency([{k: v for k, v in t.items() if k != "total"} for t in times])
    return {**stages, "total": Percentiles.of([t["total"] for t in times])}


def _processor() -> str:
    """Model name of the processor or board, as the system tells it."""
    board = Path("/proc/device-tree/model")  # Raspberry Pi and Jetson
    if board.is_file():
        return board.read_text().strip("\0 \n")
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"

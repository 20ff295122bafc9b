"""The machine and the packages that measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path

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

"""The machine and package versions of a measurement."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

from runtimes.board import read_board, usable_cpus
from runtimes.formats import FORMATS


def runtime_packages() -> tuple[str, ...]:
    """Packages that may run a model, of all formats."""
    return tuple(package for format_ in FORMATS.values() for package in format_.packages)


PACKAGES = (
    "edge-mrcnn",
    "numpy",
    "opencv-python-headless",
    *runtime_packages(),
    "torch",
    "torchvision",
    "pycocotools",
)
"""Packages whose versions affect a result."""


def describe_device() -> dict[str, str]:
    """The machine: processor, cores, system, Python."""
    return {
        "processor": read_board().model,
        "cores": f"{len(usable_cpus())}",
        "system": f"{describe_system()}, {platform.machine()}",
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


def describe_system() -> str:
    """Name of the operating system."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"

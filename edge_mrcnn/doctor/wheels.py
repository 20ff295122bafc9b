"""The newest release of each package per system: the newest wheel for an architecture, a glibc and a Python version.

Looked up on the package index in November 2026; those of aarch64 were also installed and run on an emulated board.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_mrcnn.doctor.facts import System, parse_version
from runtimes.formats import FORMATS

OLDEST = {"openvino": (2024, 4), "onnxruntime": (1, 19), "ai-edge-litert": (2, 1), "opencv-python-headless": (4, 8)}
"""The oldest supported releases."""
EXTRAS = {**{format_.packages[0]: format_.extra for format_ in FORMATS.values()}, "av": "stream"}
"""Package -> extra of edge-mrcnn that installs it."""


class Wheels(NamedTuple):
    """Newest releases for systems with at least this glibc."""

    machine: str
    glibc: tuple[int, int]
    versions: dict[str, str]


WHEELS = (
    Wheels("aarch64", (2, 35), {
        "openvino": "2026.4.1", "onnxruntime": "1.31.1", "ai-edge-litert": "2.3.0", "numpy": "2.4.6",
        "opencv-python-headless": "5.0.0.93",
    }),
    Wheels("aarch64", (2, 31), {
        "openvino": "2025.2.0", "onnxruntime": "1.31.1", "ai-edge-litert": "2.3.0", "numpy": "2.4.6",
        "opencv-python-headless": "5.0.0.93",
    }),
    Wheels("aarch64", (2, 28), {
        "openvino": "2024.0.0", "onnxruntime": "1.31.1", "ai-edge-litert": "2.3.0", "numpy": "2.4.6",
        "opencv-python-headless": "5.0.0.93",
    }),
    Wheels("aarch64", (2, 17), {
        "openvino": "2023.1.0", "onnxruntime": "1.16.3", "ai-edge-litert": "1.4.0", "numpy": "2.2.6",
        "opencv-python-headless": "5.0.0.93",
    }),
    Wheels("x86_64", (2, 28), {
        "openvino": "2026.4.1", "onnxruntime": "1.31.1", "ai-edge-litert": "2.3.0", "numpy": "2.4.6",
        "opencv-python-headless": "5.0.0.93",
    }),
    Wheels("x86_64", (2, 17), {
        "openvino": "2025.4.1", "onnxruntime": "1.16.3", "ai-edge-litert": "1.4.0", "numpy": "2.2.6",
        "opencv-python-headless": "5.0.0.93",
    }),
)  # fmt: skip
"""In order of preference for each machine; for Python 3.11, see `OF_PYTHON`."""

OF_PYTHON: dict[tuple[int, ...], dict[str, str]] = {  # newest releases for other Python versions, where they differ
    (3, 10): {"numpy": "2.2.6", "onnxruntime": "1.23.2"},
    (3, 12): {"numpy": "2.5.5"},
    (3, 13): {"numpy": "2.5.5"},
    (3, 14): {"numpy": "2.5.5"},
}
PYTHONS = ((3, 10), (3, 14))
"""The oldest and newest Python with wheels of all packages."""


def fitting_wheels(system: System) -> dict[str, str]:
    """Package -> the newest supported release that can be installed; without packages that cannot."""
    if system.bits != 64 or system.libc != "glibc":
        return {}
    for wheels in WHEELS:
        if wheels.machine == system.machine and wheels.glibc <= system.libc_version[:2]:
            of_python = OF_PYTHON.get(system.python[:2], {}) if wheels.glibc >= (2, 28) else {}
            versions = wheels.versions | of_python
            return {n: v for n, v in versions.items() if parse_version(v) >= OLDEST.get(n, ())}
    return {}


def is_limited(package: str, system: System) -> bool:
    """Whether a newer release exists that needs a newer glibc or another Python."""
    fitting = fitting_wheels(system).get(package)
    newest = max((parse_version(wheels.versions[package]) for wheels in WHEELS), default=())
    return fitting is not None and parse_version(fitting) < newest

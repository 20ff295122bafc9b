"""Facts about this machine: board, system, packages, cameras, accelerators. They are not judged here."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_mrcnn.measure.surroundings import describe_packages, describe_system, runtime_packages
from runtimes.board import Board, Condition, read_board, read_condition
from runtimes.board.files import ROOT, read_text
from runtimes.errors import one_line
from runtimes.formats import FORMATS

OPENCVS = (
    "opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip
PACKAGES = (
    "numpy", *OPENCVS, *runtime_packages(), "onnx", "torch", "av", "pycocotools", "picamera2", "runtimes", "quantize",
    "edge-mrcnn",
)  # fmt: skip
"""Packages whose presence and versions matter."""

PROBES = {  # "opencv" or a format -> Python code that prints facts about the package as JSON
    "opencv": "import cv2, json, re; found = re.search(r'GStreamer:\\s+(\\w+)', cv2.getBuildInformation());"
    " print(json.dumps({'gstreamer': bool(found) and found[1] == 'YES'}))",
    "onnx": "import onnxruntime, json; print(json.dumps({'providers': onnxruntime.get_available_providers()}))",
    "openvino": "import openvino, json; core = openvino.Core(); print(json.dumps({'devices': {d:"
    " core.get_property(d, 'FULL_DEVICE_NAME') for d in core.available_devices}}))",
    "tflite": "import json\ntry: from ai_edge_litert.interpreter import Interpreter\n"
    "except ModuleNotFoundError: from tflite_runtime.interpreter import Interpreter\nprint(json.dumps({}))",
}
PROBED = {"opencv": OPENCVS, **{name: format_.packages for name, format_ in FORMATS.items() if name in PROBES}}
"""Probe -> the packages that provide what it imports; it runs if one of them is installed."""

ACCELERATORS = {  # pattern of a device file -> kind of device
    "dev/dri/renderD*": "GPU",
    "dev/nvidia[0-9]*": "NVIDIA GPU",
    "dev/nvhost-gpu": "Jetson GPU",
    "dev/accel/accel*": "NPU",
    "dev/apex_*": "Coral Edge TPU",
    "dev/hailo*": "Hailo",
}
NO_CAMERAS = ("codec", "isp", "pispbe", "rpivid", "hevc", "-dec", "-enc")
"""Parts of the names of video devices that are not cameras: a Raspberry Pi has a dozen of them."""
_PROBE_S = 60


@dataclass(frozen=True, kw_only=True)
class System:
    """The operating system, and Python."""

    name: str
    """Such as "Debian GNU/Linux 12 (bookworm)"."""
    machine: str
    """Architecture of the kernel: "aarch64", "x86_64", "armv7l"."""
    bits: int
    """Word size of Python and its libraries; can be 32 on a 64-bit kernel."""
    libc: str
    """"glibc", or another name, or empty."""
    libc_version: tuple[int, ...]
    python: tuple[int, ...]
    """Major, minor and micro version."""
    is_isolated: bool = False
    """Whether Python is a virtual environment without the system's packages."""


@dataclass(frozen=True)
class Probe:
    """Result of importing a package."""

    answer: dict[str, Any] = field(default_factory=dict)
    """Facts that it reported."""
    error: str = ""
    """Why it cannot be imported; empty if it can."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All facts."""

    board: Board
    condition: Condition
    system: System
    packages: dict[str, str]
    """Package name -> version, of installed packages."""
    probes: dict[str, Probe]
    """Name in `PROBES` -> result, of installed packages."""
    cameras: tuple[str, ...]
    """Device file and name of each video device that may be a camera."""
    accelerators: tuple[str, ...]
    """Device file and kind of each accelerator."""
    jetpack: str = ""
    """Release of Jetson Linux, such as "R36.4.3"; R36 is JetPack 6, R38 is JetPack 7."""
    has_picamera2: bool = False
    """Whether this Python can import picamera2."""

    def has(self, *names: str) -> bool:
        """Whether all these packages are installed."""
        return all(name in self.packages for name in names)

    @property
    def jetson_linux(self) -> int:
        """First number of the release of Jetson Linux; 0 elsewhere."""
        major = self.jetpack.removeprefix("R").partition(".")[0]
        return int(major) if major.isdecimal() else 0

    @property
    def has_cuda_13(self) -> bool:
        """Whether this is JetPack 7 or later, which brings CUDA 13."""
        return self.jetson_linux >= 38

    def version(self, name: str) -> tuple[int, ...]:
        """Version of a package as numbers; empty if it is not installed."""
        return parse_version(self.packages.get(name, ""))


def read_facts(
    root: Path = ROOT,
    *,
    system: System | None = None,
    packages: Mapping[str, str] | None = None,
    probes: Mapping[str, Probe] | None = None,
) -> Facts:
    """Collect the facts.

    Args:
        root: Root of `/proc`, `/sys`, `/dev` and `/etc`.
        system: The system; determined if None, as are the next two.
        packages: Package name -> version.
        probes: Results of importing packages; each is imported in a process of its own if None.
    """
    system = system or read_system()
    packages = dict(describe_packages(PACKAGES) if packages is None else packages)
    return Facts(
        board=read_board(root, system.machine),
        condition=read_condition(root),
        system=system,
        packages=packages,
        probes=dict(run_probes(packages) if probes is None else probes),
        cameras=_find_cameras(root),
        accelerators=tuple(
            f"/{path.relative_to(root)} {kind}"
            for pattern, kind in ACCELERATORS.items()
            for path in _glob(root, pattern)
        ),
        jetpack=_jetpack(read_text(root / "etc/nv_tegra_release")),
        has_picamera2="picamera2" in packages,
    )


def read_system() -> System:
    """The system that runs this Python."""
    libc, version = platform.libc_ver()
    return System(
        name=describe_system(),
        machine=platform.machine(),
        bits=64 if sys.maxsize > 2**32 else 32,
        libc=libc,
        libc_version=parse_version(version),
        python=sys.version_info[:3],
        is_isolated=sys.prefix != sys.base_prefix and not _sees_system_packages(),
    )


def run_probes(packages: Mapping[str, str]) -> dict[str, Probe]:
    """Import each installed package in a process of its own."""
    return {name: _probe(PROBES[name]) for name, brought_by in PROBED.items() if packages.keys() & set(brought_by)}


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2026.4.1-1234" to (2026, 4, 1)."""
    numbers = []
    for part in text.replace("-", ".").replace("+", ".").split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers[:3])


def _probe(code: str) -> Probe:
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Probe(error=f"does not start within {_PROBE_S} s")
    if done.returncode < 0:
        return Probe(error=f"crashes with {signal.Signals(-done.returncode).name}")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return Probe(error=one_line(Exception(last[0])))
    return Probe(answer=json.loads(done.stdout.strip().splitlines()[-1]))


def _find_cameras(root: Path) -> tuple[str, ...]:
    cameras = []
    for path in _glob(root, "dev/video[0-9]*"):
        name = read_text(root / "sys/class/video4linux" / path.name / "name")
        if not any(part in name for part in NO_CAMERAS):
            cameras.append(f"/dev/{path.name} {name}".strip())
    return tuple(cameras)


def _find_accelerators(root: Path) -> tuple[str, ...]:
    found = ((path, kind) for pattern, kind in ACCELERATORS.items() for path in _glob(root, pattern))
    return tuple(f"/{path.relative_to(root)} {kind}" for path, kind in found)


def _glob(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(pattern), key=lambda path: (len(path.name), path.name))


def _jetpack(release: str) -> str:
    """From "# R36 (release), REVISION: 4.3, ..." to "R36.4.3"."""
    major, _, rest = release.removeprefix("#").strip().partition(" ")
    minor = rest.partition("REVISION:")[2].partition(",")[0].strip()
    return f"{major}.{minor}" if minor else ""


def _sees_system_packages() -> bool:
    config = read_text(Path(sys.prefix) / "pyvenv.cfg").lower().replace(" ", "")
    return "include-system-site-packages=true" in config

"""An emulated Raspberry Pi 4 and 5, and what one installs on them. `.ci/test-pi` prepares the emulator.

The processor is QEMU's, so an instruction that it lacks is really missing. What Linux tells of it is made up here:
without a Pi's `/sys` OpenVINO, and with the host's one ONNX Runtime and LiteRT, end in a segmentation fault.
Time is no measure here: emulated models take some 200 times as long.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "pi"
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}
MODULES = {"onnx": ["onnxruntime"], "openvino": ["openvino"], "tflite": ["ai_edge_litert.interpreter"]}
GLIBC = "manylinux_2_35"
"""Of Raspberry Pi OS bookworm (2.36) and JetPack 6 (2.35)."""
SOURCES = ("edge_mrcnn/export", "edge_mrcnn/model", "edge_mrcnn/config.py", "quantize", "runtimes", "requirements.txt")
"""The sources that the model files depend on."""


ROWS: pytest.StashKey[list[tuple[str, ...]]] = pytest.StashKey()
"""Lines of the table that is printed at the end."""


class Processor(NamedTuple):
    """The kernel's description of a board's processor."""

    board: str
    part: str
    midr: str
    features: str


PROCESSORS = {
    "cortex-a72": Processor("Raspberry Pi 4 Model B Rev 1.4", "0xd08", "410fd083", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": Processor(
        "Raspberry Pi 5 Model B Rev 1.0",
        "0xd0b",
        "414fd0b1",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}
"""QEMU's name of a processor -> Linux's description of it on the board."""


class Outcome(NamedTuple):
    """The output of `device.py` with the models of one extra."""

    record: dict[str, Any]
    answers: dict[str, np.ndarray]

    def command(self, *arguments: str) -> dict[str, Any]:
        """The outcome of the first command that starts with these arguments."""
        return next(c for c in self.record["commands"] if c["arguments"][: len(arguments)] == list(arguments))


@pytest.fixture(scope="session")
def rootfs() -> Path:
    """The arm64 system that `.ci/test-pi` made."""
    if "EDGE_PI" not in os.environ:
        pytest.skip("needs an emulated board: make test-pi")
    return Path(os.environ["EDGE_PI"])


@pytest.fixture(scope="session")
def board_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a processor to the folder with its `sys` and `cpuinfo`."""

    def make(cpu: str) -> Path:
        folder = tmp_path_factory.mktemp(cpu)
        write_board(folder, PROCESSORS[cpu])
        return folder

    return make


def write_board(folder: Path, processor: Processor) -> None:
    """Write what a board's kernel shows of its four cores."""
    cores = folder / "sys/devices/system/cpu"
    cores.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (cores / name).write_text("0-3\n")
    (cores / "kernel_max").write_text("255\n")
    for core in range(4):
        mask = f"{1 << core:x}"
        files = {
            "topology/core_id": core, "topology/physical_package_id": 0, "topology/cluster_id": 0,
            "topology/thread_siblings": mask, "topology/core_cpus": mask, "topology/core_siblings": "f",
            "topology/package_cpus": "f", "topology/thread_siblings_list": core, "topology/core_cpus_list": core,
            "topology/core_siblings_list": "0-3", "topology/package_cpus_list": "0-3",
            "cpufreq/cpuinfo_max_freq": 1800000, "cpufreq/cpuinfo_min_freq": 600000,
            "regs/identification/midr_el1": f"0x00000000{processor.midr}",
        }  # fmt: skip
        for name, value in files.items():
            path = cores / f"cpu{core}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
    zone = folder / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("48200\n")
    block = (
        "processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: " + processor.features + "\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: " + processor.part + "\nCPU revision\t: 3\n\n"
    )
    text = "".join(block.format(core=core) for core in range(4))
    (folder / "cpuinfo").write_text(f"{text}Model\t\t: {processor.board}\n")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder with toy{,-int8}.{onnx,xml,tflite} and a short video; kept until what makes them changes."""
    folder = CACHE / f"models-{hash_sources()}"
    if not (folder / "toy-int8.tflite").is_file():
        for old in CACHE.glob("models-*"):
            shutil.rmtree(old)
        making = tmp_path_factory.mktemp("models")
        write_video(making / "squares.mp4")
        export(request.getfixturevalue("toy_checkpoint"), making)
        shutil.copytree(making, folder)
    return folder


def hash_sources() -> str:
    """A short hash of the files in `SOURCES`."""
    digest = hashlib.sha256()
    for source in SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def export(checkpoint: Path, folder: Path) -> None:
    """Export to all targets in FP32 and INT8, by the command that a user types."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for index in range(8):
        rng = np.random.default_rng(index)
        cells = rng.integers(0, 256, (8, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(pictures / f"{index}.png"), cells.repeat(8, 0).repeat(8, 1))
    command = [sys.executable, "-m", "edge_mrcnn", "export", "--weights", str(checkpoint), "--int8"]
    subprocess.run([*command, "--calib", str(pictures), "-o", str(folder)], check=True, cwd=ROOT)


def write_video(path: Path) -> None:
    """Four frames of coloured squares."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (256, 128))
    for index in range(4):
        cells = np.random.default_rng(index).integers(0, 256, (4, 8, 3), dtype=np.uint8)
        video.write(cells.repeat(32, 0).repeat(32, 1))
    video.release()


@pytest.fixture(scope="session")
def site(wheel: Path, rootfs: Path, uv: str) -> Callable[[str], Path]:
    """A function from an extra to a folder with what `pip install edge-mrcnn[EXTRA]` puts on the board."""

    @functools.cache
    def install(extra: str) -> Path:
        folder = CACHE / f"site-{extra}"
        shutil.rmtree(folder, ignore_errors=True)
        python = next((rootfs / "usr/bin").glob("python3.[0-9]*")).name.removeprefix("python")
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--target", folder, "--python-version", python,
             "--python-platform", f"aarch64-{GLIBC}", "--only-binary", ":all:",
             "--constraint", ROOT / "requirements.txt", "--find-links", wheel.parent, f"{wheel}[{extra}]"],
            check=True,
        )  # fmt: skip
        return folder

    return install


def task_for(extra: str, folder: str) -> str:
    """The task of `device.py` for the models of an extra in a folder."""
    files = [f"{folder}/toy{kind}{SUFFIXES[extra]}" for kind in ("", "-int8")]
    run = ["run", "--model", files[1], "--source", f"{folder}/squares.mp4", "--threads", "2", "--conf", "0.05"]
    commands = [["--help"], ["doctor"], *(["inspect", f] for f in files), *(["verify", f] for f in files), run]
    return json.dumps({"modules": ["numpy", "cv2", "click", *MODULES[extra]], "commands": commands, "models": files})


@pytest.fixture(scope="session", params=list(SUFFIXES))
def extra(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session", params=list(PROCESSORS))
def cpu(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def here(extra: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outputs on this machine."""
    folder = tmp_path_factory.mktemp("here")
    command = [sys.executable, str(ROOT / "tests/pi/device.py"), str(folder / "answers.npz")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([*command, task_for(extra, str(models))], capture_output=True, text=True, env=environment)
    return read_outcome(result, folder)


@pytest.fixture(scope="session")
def there(
    cpu: str, extra: str, models: Path, rootfs: Path, site: Callable[[str], Path],
    board_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory,
) -> Outcome:  # fmt: skip
    """The outputs on the emulated board."""
    folder = tmp_path_factory.mktemp("there")
    shown = [f"{site(extra)}:/opt/site", f"{models}:/opt/models", f"{folder}:/opt/out", f"{ROOT / 'tests/pi'}:/opt/pi"]
    command = [str(ROOT / ".ci/emulate"), str(rootfs), cpu, str(board_folder(cpu)), *shown, "--"]
    command += ["/usr/bin/python3", "/opt/pi/device.py", "/opt/out/answers.npz", task_for(extra, "/opt/models")]
    environment = {**os.environ, "PYTHONPATH": "/opt/site"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    return read_outcome(result, folder)


def read_outcome(result: subprocess.CompletedProcess[str], folder: Path) -> Outcome:
    """The record on the last line of stdout, and the outputs beside it."""
    assert result.returncode == 0, f"exit code {result.returncode}: {result.stderr[-2000:]}"
    with np.load(folder / "answers.npz") as answers:
        return Outcome(json.loads(result.stdout.splitlines()[-1]), dict(answers))


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that adds a line to the table that is printed at the end."""
    rows = request.config.stash.setdefault(ROWS, [])
    return lambda *cells: rows.append(cells)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of docs/device.md."""
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section("answers on the emulated boards: largest difference from x86, and the median")
        for row in sorted(rows):
            terminalreporter.line(" | ".join(row))

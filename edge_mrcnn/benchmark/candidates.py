"""Candidates of a benchmark: model files, each with a number of threads and options of its runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtimes.board import Core
from runtimes.errors import MissingFileError, UsageError
from runtimes.formats import FORMATS, suffixes
from runtimes.model_file import ModelFile, find_model_files
from runtimes.shipped import find_shipped

OPENVINO_PRECISIONS = ("f32", "auto")
"""Precisions of float layers: f32 as in the report, or OpenVINO's own choice (bf16 on many x86, fp16 on Arm)."""

DEVICE_NAMES = tuple(dict.fromkeys(name for format_ in FORMATS.values() for name in format_.devices))
"""Devices for models, the CPU first."""


@dataclass(frozen=True)
class Candidate:
    """One model with one set of options."""

    path: Path
    """Path as the user gave it."""
    threads: int
    """CPU threads of the runtime; 0 for its own choice, as on another device."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of `runtimes.load`."""
    is_peer: bool = False
    """Whether it is another tool's model, of which only the network is timed."""

    @property
    def place(self) -> str:
        """Where it runs: "1 thread", "4 threads", "gpu"."""
        if not self.threads:
            return str(self.options.get("device", "cpu")).lower()
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"


def find_models(given: Sequence[Path]) -> list[Path]:
    """Model files, also of folders and bundled models, each once and in order.

    Raises:
        MissingFileError: If a file or folder does not exist.
        UnknownFormatError: If no runtime opens a file.
        UsageError: If a folder contains no model.
    """
    found: list[Path] = []
    for name in given:
        shipped = find_shipped(name)
        path = shipped.folder if shipped else name
        if not path.exists():
            raise MissingFileError(f"{path}: no such file or folder")
        models = find_model_files(path) if path.is_dir() else [path]
        if not models:
            raise UsageError(
                f"{path}: no {', '.join(suffixes())} file in this folder; make one with `edge-mrcnn export`"
            )
        found += [ModelFile(model).given for model in models]
    return list(dict.fromkeys(found))


def default_threads(cores: int) -> tuple[int, ...]:
    """Powers of two up to the number of cores, and that number: 1, 2, 4 on a Raspberry Pi."""
    threads = []
    power = 1
    while power < cores:
        threads.append(power)
        power *= 2
    return (*threads, cores)


def check_threads(threads: Sequence[int], cores: Sequence[Core]) -> None:
    """Raise UsageError for more threads than this process may use."""
    usable = sum(len(core.cpus) for core in cores)
    if max(threads) > usable:
        raise UsageError(
            f"--threads {max(threads)}: expected at most {usable}, the number of cores that this process may use"
        )


def parse_precisions(text: str) -> tuple[str, ...]:
    """Parse "f32,auto", or "both".

    Raises:
        UsageError: If there is an unknown word.
    """
    names = OPENVINO_PRECISIONS if text == "both" else tuple(part.strip() for part in text.split(","))
    if not set(names) <= set(OPENVINO_PRECISIONS):
        raise UsageError(f"--openvino-precision {text}: expected {', '.join(OPENVINO_PRECISIONS)} or both")
    return names


def parse_devices(text: str) -> tuple[str, ...]:
    """Parse "cpu,gpu".

    Raises:
        UsageError: If there is an unknown word.
    """
    names = tuple(part.strip().lower() for part in text.split(","))
    for name in names:
        if name not in DEVICE_NAMES:
            raise UsageError(f"--device {name}: expected {', '.join(DEVICE_NAMES)}")
    return names


def list_candidates(
    models: Sequence[Path],
    threads: Sequence[int],
    *,
    peers: Sequence[Path] = (),
    openvino_precisions: Sequence[str] = OPENVINO_PRECISIONS[:1],
    devices: Sequence[str] = DEVICE_NAMES[:1],
) -> list[Candidate]:
    """Every model with every number of threads and on every other device of its runtime; other tools' models last.

    OpenVINO's models are added in every precision of float layers.
    """
    candidates = []
    for path in models:
        format_ = ModelFile(path).format
        variants: list[dict[str, Any]] = [{}]
        if "precision" in format_.options.names():
            variants = [{"precision": precision} for precision in openvino_precisions]
        if "cpu" in devices:
            for options in variants:
                candidates += [Candidate(path, count, options) for count in threads]
        for device in devices:
            if device in format_.devices and device != "cpu":
                candidates += [Candidate(path, 0, {**options, "device": device}) for options in variants]
    for path in peers:
        candidates += [Candidate(path, count, is_peer=True) for count in threads]
    return candidates

"""What a benchmark times: model files, each with a number of threads and options of its runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtimes import FORMATS
from runtimes.board import Core
from runtimes.bundle import model_file
from runtimes.errors import MissingFileError, UsageError

OPENVINO_PRECISIONS = ("f32", "auto")
"""What float layers may run in: as the report measured them, or as OpenVINO likes (bf16 on many x86, fp16 on Arm)."""


@dataclass(frozen=True)
class Candidate:
    """One way to run one model."""

    path: Path
    threads: int
    """CPU threads of the runtime."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of `runtimes.load`."""
    is_peer: bool = False
    """Whether the file is somebody else's: only its net is timed."""

    @property
    def key(self) -> tuple[Path, tuple[tuple[str, Any], ...]]:
        """What decides the result but not the speed: candidates of one key find the same objects."""
        return self.path, tuple(sorted(self.options.items()))


def find_models(given: Sequence[Path]) -> list[Path]:
    """Model files, those of folders included, each once and in order.

    Raises:
        MissingFileError: If a file or folder does not exist.
        UsageError: If a folder holds no model.
    """
    found: list[Path] = []
    for path in given:
        if not path.exists():
            raise MissingFileError(f"{path}: no such file or folder")
        models = sorted(p for p in path.iterdir() if p.suffix in FORMATS) if path.is_dir() else [model_file(path)]
        if not models:
            raise UsageError(f"{path}: holds no {', '.join(FORMATS)}: make one with `edge-mrcnn export`")
        found += models
    return list(dict.fromkeys(found))


def default_threads(cores: int) -> tuple[int, ...]:
    """Powers of two up to the number of cores, and that number: 1, 2, 4 on a Raspberry Pi."""
    powers = [1 << exponent for exponent in range(cores.bit_length()) if 1 << exponent < cores]
    return (*powers, cores)


def check_threads(threads: Sequence[int], cores: Sequence[Core]) -> None:
    """Raise UsageError if more threads are asked for than this process may use."""
    usable = sum(len(core.cpus) for core in cores)
    if max(threads) > usable:
        raise UsageError(f"--threads {max(threads)}: this process may use {usable}; more would wait for each other")


def parse_precisions(text: str) -> tuple[str, ...]:
    """Read "f32,auto", or "both".

    Raises:
        UsageError: If there is another word.
    """
    names = OPENVINO_PRECISIONS if text == "both" else tuple(part.strip() for part in text.split(","))
    if not set(names) <= set(OPENVINO_PRECISIONS):
        raise UsageError(f"--openvino-precision {text}: expected {', '.join(OPENVINO_PRECISIONS)} or both")
    return names


def list_candidates(
    models: Sequence[Path],
    threads: Sequence[int],
    *,
    peers: Sequence[Path] = (),
    openvino_precisions: Sequence[str] = OPENVINO_PRECISIONS[:1],
) -> list[Candidate]:
    """Every model with every number of threads, and OpenVINO's in every precision of float layers; peers last."""
    candidates = []
    for path in models:
        is_openvino = path.suffix == ".xml"
        variants = [{"precision": p} for p in openvino_precisions] if is_openvino else [{}]
        candidates += [Candidate(path, count, options) for options in variants for count in threads]
    return candidates + [Candidate(path, count, is_peer=True) for path in peers for count in threads]

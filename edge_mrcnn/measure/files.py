"""Names, sizes and hashes of files and models, each of which may be several files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtimes.formats import files_of
from runtimes.model_file import hash_files

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".pkl")
"""Suffixes of our own checkpoints and those of other projects."""


def is_checkpoint(path: Path) -> bool:
    """Whether a name is a checkpoint, which torch runs: a file, or "torchvision:" and a published model."""
    return path.suffix in CHECKPOINT_SUFFIXES or str(path).startswith("torchvision:")


def file_size(path: Path) -> int:
    """Size of all files of one model, in bytes."""
    return sum(file.stat().st_size for file in files_of(path))


def file_sha256(path: Path) -> str:
    """Hash over all files of one model, hexadecimal."""
    return hash_files(files_of(path))


def file_number(path: Path) -> int | None:
    """The number in a file's name, such as 7 for "0007.png"; None for other names."""
    return int(path.stem) if path.stem.isdecimal() else None


def unique_names(paths: Sequence[Path]) -> list[str]:
    """File names, with as many parent folders as needed to distinguish them."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(paths, start=1)]

"""Names, sizes and hashes of models, each of which may be several files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


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


def unique_names(paths: Sequence[Path]) -> list[str]:
    """File names, with as many parent folders as it takes to tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(paths, start=1)]

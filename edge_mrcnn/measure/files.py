"""Size and hash of a model, which may be several files."""

from __future__ import annotations

import hashlib
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

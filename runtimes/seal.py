"""The seal of a model file: the SHA-256 of everything before it, in the last bytes of the file.

A damaged model often runs without an error and gives wrong results; only a hash detects that. Each format has a place
at its end that other tools skip: a metadata property in ONNX, a comment in XML, the comment of the ZIP archive after a
TFLite flatbuffer. The seal protects against damage and mixed-up files, not against forgery.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from runtimes.errors import MissingFileError, ModelFileError
from runtimes.formats import companions_of, format_of
from runtimes.formats.base import SealFrame
from runtimes.model_card import missing_card


def write_seal(path: str | Path, frame: SealFrame | None = None) -> None:
    """Seal a file, in place of an earlier seal; the last step after writing a file.

    Args:
        path: A model file (its companions are sealed with it), or another file.
        frame: Format of the seal of another file.

    Raises:
        MissingFileError: If a companion of the model is missing.
    """
    path = Path(path)
    frame = frame or format_of(path).seal
    data = path.read_bytes()
    body = data[: -frame.length] if frame.is_in(data) else data
    path.write_bytes(body + frame.wrap(_digest(body, path)))


def check_seal(path: str | Path, frame: SealFrame | None = None, *, name: object = None) -> bytes:
    """Read a file and check that it has not changed since it was sealed.

    Args:
        path: As in `write_seal`.
        frame: As in `write_seal`.
        name: Name of the file in messages; its path if None.

    Returns:
        The content, with the seal.

    Raises:
        ModelFileError: If it was changed, or has no seal.
        MissingFileError: If a companion of the model is missing.
    """
    path = Path(path)
    frame = frame or format_of(path).seal
    name = path if name is None else name
    data = path.read_bytes()
    if not frame.is_in(data):
        raise missing_card(name)
    body = memoryview(data)[: -frame.length]  # a memoryview, because slicing bytes would copy the file
    if data[len(body) :] != frame.wrap(_digest(body, path)):
        raise ModelFileError(f"{name}: the file is damaged, its hash differs from its seal; copy it again")
    return data


def _digest(body: bytes | memoryview, path: Path) -> str:
    digest = hashlib.sha256(body)
    for companion in companions_of(path):
        if not companion.is_file():
            raise MissingFileError(
                f"{companion}: not found; the model consists of two files, keep this one beside {path.name}"
            )
        digest.update(companion.read_bytes())
    return digest.hexdigest()

"""The seal of a model file: the SHA-256 of everything before it, in the last bytes of the file.

A damaged model often runs without complaint and answers nonsense; only a hash finds that. Each format has a place for
a remark at its end that other tools skip: one more metadata property in ONNX, a comment in XML, the comment of the
ZIP archive behind a TFLite flatbuffer. The seal guards against damage and mixed-up files, not against forgery.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from runtimes.errors import MissingFileError, ModelFileError
from runtimes.formats import companions_of, format_of
from runtimes.formats.base import SealFrame
from runtimes.model_card import missing_card


def write_seal(path: str | Path, frame: SealFrame | None = None) -> None:
    """Seal a file, in place of the seal that it may have; the last step of whatever writes one.

    Args:
        path: A model file (what belongs to it is sealed with it), or another file.
        frame: What the seal of another file looks like.

    Raises:
        MissingFileError: If a file that belongs to the model is not there.
    """
    path = Path(path)
    frame = frame or format_of(path).seal
    data = path.read_bytes()
    body = data[: -frame.length] if frame.is_in(data) else data
    path.write_bytes(body + frame.wrap(_digest(body, path)))


def check_seal(path: str | Path, frame: SealFrame | None = None, *, name: object = None) -> bytes:
    """Read a file that is as it was when it was sealed.

    Args:
        path: As in `write_seal`.
        frame: As in `write_seal`.
        name: What messages call the file; its path if None.

    Returns:
        Its content, with the seal.

    Raises:
        ModelFileError: If it was changed, or has no seal.
        MissingFileError: If a file that belongs to the model is not there.
    """
    path = Path(path)
    frame = frame or format_of(path).seal
    name = path if name is None else name
    data = path.read_bytes()
    if not frame.is_in(data):
        raise missing_card(name)
    body = memoryview(data)[: -frame.length]  # a slice of bytes would be a copy
    if data[len(body) :] != frame.wrap(_digest(body, path)):
        raise ModelFileError(f"{name}: the file is damaged, its hash is not the one in its seal: copy it again")
    return data


def _digest(body: bytes | memoryview, path: Path) -> str:
    digest = hashlib.sha256(body)
    for companion in companions_of(path):
        if not companion.is_file():
            raise MissingFileError(f"{companion}: not found; the model is two files, keep it beside {path.name}")
        digest.update(companion.read_bytes())
    return digest.hexdigest()

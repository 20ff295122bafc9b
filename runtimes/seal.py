"""The seal of a model file: the SHA-256 of everything before it, in the last bytes of the file.

A damaged model often runs without complaint and answers nonsense; only a hash finds that. Each format has a place for
a remark at its end that other tools skip: one more metadata property in ONNX, a comment in XML, the comment of the
ZIP archive behind a TFLite flatbuffer. The seal guards against damage and mixed-up files, not against forgery.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from runtimes.errors import MissingFileError, ModelFileError
from runtimes.model_card import CARD_KEY, missing_card

DIGEST_LENGTH = 64
SEAL_KEY = f"{CARD_KEY}_sha256"
"""What every seal is named."""


class Frame(NamedTuple):
    """The bytes around the hexadecimal digest of a seal."""

    before: bytes
    after: bytes = b""

    @property
    def length(self) -> int:
        """Bytes of a whole seal."""
        return len(self.before) + DIGEST_LENGTH + len(self.after)

    def wrap(self, digest: str) -> bytes:
        """The seal with this digest."""
        return self.before + digest.encode() + self.after


def _metadata_frame() -> Frame:
    """A StringStringEntryProto as field 14 (metadata_props) of ONNX's ModelProto; all its lengths fit in one byte."""
    entry = b"\x0a" + bytes([len(SEAL_KEY)]) + SEAL_KEY.encode() + b"\x12" + bytes([DIGEST_LENGTH])
    return Frame(b"\x72" + bytes([len(entry) + DIGEST_LENGTH]) + entry)


FRAMES = {
    ".onnx": _metadata_frame(),
    ".xml": Frame(f"<!-- {SEAL_KEY} ".encode(), b" -->\n"),
    ".tflite": Frame(f"{SEAL_KEY} ".encode()),
    ".embundle": Frame(f"{SEAL_KEY} ".encode()),
}
"""Suffix of a model file or bundle -> what its seal looks like."""


def write_seal(path: str | Path) -> None:
    """Seal a model file, in place of the seal that it may have; the last step of whatever writes one.

    Args:
        path: .onnx, .xml (the .bin beside it is sealed with it) or .tflite.
    """
    path = Path(path)
    frame, data = FRAMES[path.suffix], path.read_bytes()
    body = data[: -frame.length] if _has_seal(data, frame) else data
    path.write_bytes(body + frame.wrap(_digest(body, path)))


def check_seal(path: str | Path) -> None:
    """Raise unless a model file is as it was when it was sealed.

    Raises:
        ModelFileError: If it is not, or has no seal.
        MissingFileError: If the .bin is not beside the .xml.
    """
    path = Path(path)
    frame, data = FRAMES[path.suffix], path.read_bytes()
    if not _has_seal(data, frame):
        raise missing_card(path)
    body = memoryview(data)[: -frame.length]  # a slice of bytes would be a copy
    if data[len(body) :] != frame.wrap(_digest(body, path)):
        raise ModelFileError(f"{path}: the file is damaged, its hash is not the one in its seal: copy it again")


def weights_of(path: Path) -> Path:
    """The .bin of an OpenVINO model.

    Raises:
        MissingFileError: If it is not there.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise MissingFileError(f"{weights}: not found; an OpenVINO model is two files, keep the .bin beside the .xml")
    return weights


def _has_seal(data: bytes, frame: Frame) -> bool:
    return data[-frame.length :].startswith(frame.before) and data.endswith(frame.after)


def _digest(body: bytes | memoryview, path: Path) -> str:
    digest = hashlib.sha256(body)
    if path.suffix == ".xml":
        digest.update(weights_of(path).read_bytes())
    return digest.hexdigest()

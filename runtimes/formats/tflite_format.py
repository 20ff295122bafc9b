"""TFLite: the card is the file `edge_mrcnn.json` in a ZIP archive after the flatbuffer.

That is where TFLite's own metadata stores "associated files"; any unzip program can read it. Golden tensors are the
file `edge_mrcnn_golden.npz` there, and the seal is the comment of the archive.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

from runtimes.formats.base import ZIP_SEAL, Format, Notes, Options
from runtimes.model_card import CARD_KEY, GOLDEN_KEY

CARD_FILE = f"{CARD_KEY}.json"
GOLDEN_FILE = f"{GOLDEN_KEY}.npz"


@dataclass(frozen=True, kw_only=True)
class TfliteOptions(Options):
    """Options of TFLite: none yet."""


def read_notes(data: bytes) -> Notes:
    """See `Format`."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return Notes(None)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        card = archive.read(CARD_FILE).decode() if CARD_FILE in names else None
        golden = archive.read(GOLDEN_FILE) if GOLDEN_FILE in names else None
    return Notes(card, golden)


def write_notes(data: bytes, notes: Notes) -> bytes:
    """See `Format`: other associated files are removed, because a file can have only one archive."""
    buffer = io.BytesIO(strip_notes(data))
    with zipfile.ZipFile(buffer, "a") as archive:
        if notes.card is not None:
            archive.writestr(CARD_FILE, notes.card)
        if notes.golden is not None:
            archive.writestr(GOLDEN_FILE, notes.golden)
        # A placeholder: the archive states the length of its comment, so the seal is filled in later.
        archive.comment = ZIP_SEAL.blank
    return buffer.getvalue()


def strip_notes(data: bytes) -> bytes:
    """Only the flatbuffer of a file, with or without an archive after it."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return data[: min(entry.header_offset for entry in archive.infolist())]


TFLITE = Format(
    name="tflite",
    title="TFLite",
    suffix=".tflite",
    packages=("ai-edge-litert", "tflite-runtime"),
    extra="tflite",
    options=TfliteOptions,
    backend="runtimes.tflite_backend",
    seal=ZIP_SEAL,
    read_notes=read_notes,
    write_notes=write_notes,
)

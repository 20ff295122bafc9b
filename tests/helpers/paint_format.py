"""A fourth runtime, as somebody would add it: a net of one operator that finds patches of known colours, in NumPy.

The file is one line of JSON, with the colours, the card and golden tensors, and a second line for the seal.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtimes.base import Array, RawOutputs, Runtime
from runtimes.errors import UsageError
from runtimes.formats.base import SEAL_KEY, Format, Notes, Options, SealFrame

NEAR = 60
"""Largest distance of a colour from the wanted one, as a sum over the channels."""


@dataclass(frozen=True, kw_only=True)
class PaintOptions(Options):
    """The runtime's own option."""

    near: int = NEAR
    """See `NEAR`."""

    def __post_init__(self) -> None:
        if self.near < 0:
            raise UsageError(f"near {self.near}: expected at least 0")


def read_notes(data: bytes) -> Notes:
    """See `Format`."""
    record = json.loads(data.splitlines()[0])
    golden = record.get("golden")
    return Notes(record.get("card"), None if golden is None else base64.b64decode(golden))


def write_notes(data: bytes, notes: Notes) -> bytes:
    """See `Format`."""
    record = json.loads(data.splitlines()[0])
    record["card"] = notes.card
    record["golden"] = None if notes.golden is None else base64.b64encode(notes.golden).decode()
    return json.dumps(record).encode()


PAINT = Format(
    name="paint",
    title="Paint",
    suffix=".paint",
    packages=("numpy",),
    extra="paint",
    options=PaintOptions,
    backend="paint_format",
    seal=SealFrame(f"\n{SEAL_KEY} ".encode()),
    read_notes=read_notes,
    write_notes=write_notes,
)


class PaintRuntime(Runtime):
    """Finds one patch of each colour."""

    def __init__(self, card: Any, colours: list[list[float]], near: int) -> None:
        super().__init__(card)
        self._colours, self._near = colours, near

    def run(self, x: Array) -> RawOutputs:
        rows = [(label, self._find(x[0], colour)) for label, colour in enumerate(self._colours)]
        found = [(label, patch) for label, patch in rows if patch.any()]
        boxes = np.float32([cv2.boundingRect(patch) for _, patch in found]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        side = self.card.mask_size
        masks = np.zeros((len(found), side, side), np.float32)
        for row, (_, patch) in enumerate(found):
            left, top, right, bottom = boxes[row].astype(int)
            masks[row] = cv2.resize(np.float32(patch[top:bottom, left:right]), (side, side))
        scores = np.linspace(0.9, 0.8, len(found), dtype=np.float32)
        return RawOutputs(boxes, scores, np.array([label for label, _ in found], np.int64), masks)

    def split(self, count: int) -> list[Runtime]:
        """It holds no state, so any number can be opened."""
        return [PaintRuntime(self.card, self._colours, self._near) for _ in range(count - 1)]

    def close(self) -> None:
        super().close()

    def _find(self, image: Array, colour: list[float]) -> Array:
        return np.uint8(np.abs(image.astype(np.int16) - np.float32(colour)).sum(2) <= self._near)


def open_model(file: Any, *, threads: int | None, device: str, options: PaintOptions) -> PaintRuntime:
    """See `Format.backend`."""
    return PaintRuntime(file.card, json.loads(file.path.read_bytes().splitlines()[0])["colours"], options.near)


def read_operators(path: Path) -> list[Any]:
    """Job of `edge_mrcnn.inspection`."""
    from edge_mrcnn.inspection.operator import Operator

    record = json.loads(path.read_bytes().splitlines()[0])
    numbers = np.array(record["colours"])
    return [Operator(kind="Paint", name="backbone/Paint", weights=numbers.size, is_integer=numbers.dtype.kind == "i")]


class PaintQuantizer:
    """Job of `quantize`: whole numbers for the colours."""

    def __init__(self, model: Any, calibration: Any, config: Any) -> None:
        self.model = model

    def save(self, output: Path, keep_float: Collection[str] = ()) -> None:
        """Write the INT8 file."""
        from runtimes.model_file import ModelFile

        record = json.loads(self.model.path.read_bytes().splitlines()[0])
        record["colours"] = np.rint(record["colours"]).astype(int).tolist()
        output.write_text(json.dumps(record))
        ModelFile(output).write_card(self.model.card.updated(precision="int8"))

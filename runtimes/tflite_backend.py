"""TFLite, on LiteRT or the older tflite-runtime. One file with two signatures.

`detect` takes the image and gives boxes, scores and labels padded to D rows with score 0, and the pyramid p0, p1, ...
`mask` takes the pyramid and a fixed batch of boxes and labels and gives their masks; it runs as often as there
are objects for, so that an empty picture costs none of it.

The card is the file `edge_mrcnn.json` in a ZIP behind the flatbuffer, which is where TFLite's own metadata keeps
"associated files"; any unzip program reads it. Golden tensors are the file `edge_mrcnn_golden.npz` there, and the
seal is the comment of the ZIP.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:  # 32-bit Raspberry Pi OS has only the older package
    from tflite_runtime.interpreter import Interpreter

from runtimes.base import Array, RawOutputs, Runtime, check_graph, refusing
from runtimes.board import choose_threads
from runtimes.errors import ModelFileError
from runtimes.model_card import CARD_KEY, GOLDEN_KEY, ModelCard, missing_card
from runtimes.quiet import quiet_stderr
from runtimes.seal import DIGEST_LENGTH, FRAMES, check_seal, write_seal

CARD_FILE = f"{CARD_KEY}.json"
GOLDEN_FILE = f"{GOLDEN_KEY}.npz"
SIGNATURES = ("detect", "mask")


class TfliteRuntime(Runtime):
    """A TFLite file, opened."""

    def __init__(self, card: ModelCard, interpreter: Any) -> None:
        super().__init__(card)
        self._detect: Any = interpreter.get_signature_runner("detect")
        self._mask: Any = interpreter.get_signature_runner("mask")
        inputs = self._mask.get_input_details()
        self._batch = int(inputs["boxes"]["shape"][0])
        self._label_type = inputs["labels"]["dtype"]
        self._levels = [name for name in inputs if name not in ("boxes", "labels")]

    def run(self, x: Array) -> RawOutputs:
        found = self._detect(image=x)
        live = found["scores"] > 0
        boxes, scores, labels = found["boxes"][live], found["scores"][live], found["labels"][live]
        pyramid = {name: found[name] for name in self._levels}
        return RawOutputs(boxes, scores, labels, self._find_masks(pyramid, boxes, labels))

    def close(self) -> None:
        self._detect = self._mask = None

    def _find_masks(self, pyramid: dict[str, Array], boxes: Array, labels: Array) -> Array:
        """(N, M, M) masks of N boxes, a batch at a time; the last batch is filled with empty boxes."""
        count, side = len(boxes), self.card.mask_size
        runs = -(-count // self._batch)
        padded_boxes = np.zeros((runs * self._batch, 4), dtype=np.float32)
        padded_labels = np.zeros(runs * self._batch, dtype=self._label_type)
        padded_boxes[:count], padded_labels[:count] = boxes, labels
        masks = np.empty((runs * self._batch, side, side), dtype=np.float32)
        for start in range(0, count, self._batch):
            rows = slice(start, start + self._batch)
            masks[rows] = self._mask(**pyramid, boxes=padded_boxes[rows], labels=padded_labels[rows])["masks"]
        return masks[:count]


def open_model(path: str | Path, *, threads: int | None = None) -> TfliteRuntime:
    """Open a TFLite file.

    Args:
        path: The file.
        threads: CPU threads; as many as the cores that this process may use if None, for the interpreter's own choice
            is one.

    Raises:
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
    """
    card, flatbuffer = _unpack(path)
    with refusing(path, "TFLite cannot open it"), quiet_stderr():
        interpreter = Interpreter(model_content=flatbuffer, num_threads=choose_threads(threads))
        if missing := set(SIGNATURES) - set(interpreter.get_signature_list()):
            raise ModelFileError(f"{path}: the model has no signature {', '.join(sorted(missing))}: export it again")
        _check_signatures(interpreter, card, path)
        return TfliteRuntime(card, interpreter)


def _check_signatures(interpreter: Any, card: ModelCard, path: str | Path) -> None:
    detect, mask = (interpreter.get_signature_runner(name) for name in SIGNATURES)
    outputs = {*detect.get_output_details(), *mask.get_output_details()}
    check_graph(path, card, tuple(map(int, detect.get_input_details()["image"]["shape"])), outputs)


def read_card(path: str | Path) -> ModelCard:
    """The card of a TFLite file.

    Raises:
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
    """
    return _unpack(path)[0]


def write_card(path: str | Path, card: ModelCard) -> None:
    """Put a card into a TFLite file, in place of the one that it has; golden tensors go, being of another model."""
    _pack(Path(path), card, strip_card(Path(path).read_bytes()))


def read_golden(path: str | Path) -> bytes | None:
    """The golden tensors in a TFLite file, None where it has none; raises as `read_card` does."""
    _unpack(path)
    with zipfile.ZipFile(path) as archive, refusing(path, "its golden tensors are damaged"):
        return archive.read(GOLDEN_FILE) if GOLDEN_FILE in archive.namelist() else None


def write_golden(path: str | Path, data: bytes | None) -> None:
    """Put golden tensors into a TFLite file, in place of those that it has; None takes them out.

    Raises as `read_card` does.
    """
    _pack(Path(path), *_unpack(path), {GOLDEN_FILE: data} if data is not None else None)


def _pack(path: Path, card: ModelCard, flatbuffer: bytes, others: dict[str, bytes] | None = None) -> None:
    """Write the flatbuffer with the card and other files behind it, sealed."""
    buffer = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(CARD_FILE, card.to_json())
        for name, content in (others or {}).items():
            archive.writestr(name, content)
        archive.comment = FRAMES[".tflite"].wrap("0" * DIGEST_LENGTH)
    path.write_bytes(buffer.getvalue())
    write_seal(path)


def strip_card(data: bytes) -> bytes:
    """The flatbuffer alone, of a TFLite file with or without a card."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return data[: min(entry.header_offset for entry in archive.infolist())]


def _unpack(path: str | Path) -> tuple[ModelCard, bytes]:
    """The card and the flatbuffer of a file whose seal is whole."""
    check_seal(path)
    data = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = archive.read(CARD_FILE).decode()
    except Exception as error:  # zipfile raises six kinds and more for a damaged file
        raise missing_card(path) from error
    return ModelCard.from_json(text), strip_card(data)

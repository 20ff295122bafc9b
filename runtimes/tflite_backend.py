"""The TFLite backend, on LiteRT or the older tflite-runtime.

A file has two signatures. `detect` takes the image and returns boxes, scores and labels, padded to D rows with score 0,
and the feature pyramid p0, p1, ... `mask` takes the pyramid and a fixed batch of boxes and labels and returns their
masks. It runs once per batch of detections, so an empty image costs nothing. `runtimes.formats.tflite_format` describes
the rest of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ModuleNotFoundError:  # 32-bit Raspberry Pi OS has only the older package
    from tflite_runtime.interpreter import Interpreter

from runtimes.base import Array, RawOutputs, Runtime, check_graph, refusing
from runtimes.board import choose_threads
from runtimes.errors import ModelFileError
from runtimes.formats.tflite_format import TfliteOptions, strip_notes
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile
from runtimes.quiet import quiet_stderr

SIGNATURES = ("detect", "mask")


class TfliteRuntime(Runtime):
    """An opened TFLite file."""

    def __init__(self, card: ModelCard, open_interpreter: Callable[[int], Any], threads: int) -> None:
        """Open an interpreter.

        Args:
            card: Card of the model.
            open_interpreter: Function from a number of CPU threads to an interpreter.
            threads: CPU threads.
        """
        super().__init__(card)
        self._open_interpreter = open_interpreter
        self._threads = threads
        self._detect: Any = None
        self._mask: Any = None
        self._take(threads)

    def run(self, x: Array) -> RawOutputs:
        found = self._detect(image=x)
        live = found["scores"] > 0
        boxes, scores, labels = found["boxes"][live], found["scores"][live], found["labels"][live]
        pyramid = {name: found[name] for name in self._levels}
        return RawOutputs(boxes, scores, labels, self._find_masks(pyramid, boxes, labels))

    def split(self, count: int) -> list[Runtime]:
        """See `Runtime.split`: one interpreter each, with a share of the threads."""
        share = max(1, self._threads // count)
        self._take(share)
        return [TfliteRuntime(self.card, self._open_interpreter, share) for _ in range(count - 1)]

    def close(self) -> None:
        super().close()
        self._detect = self._mask = None

    def _take(self, threads: int) -> None:
        """Use an interpreter with this number of threads from now on."""
        interpreter = self._open_interpreter(threads)
        self._detect = interpreter.get_signature_runner("detect")
        self._mask = interpreter.get_signature_runner("mask")
        inputs = self._mask.get_input_details()
        self._batch = int(inputs["boxes"]["shape"][0])
        self._label_type = inputs["labels"]["dtype"]
        self._levels = [name for name in inputs if name not in ("boxes", "labels")]

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


def open_model(file: ModelFile, *, threads: int | None, device: str, options: TfliteOptions) -> TfliteRuntime:
    """Open a TFLite file.

    Args:
        file: The file.
        threads: Number of CPU threads; if None, one per core that this process may use; the interpreter's own default
            is one.
        device: "cpu".
        options: No options yet.

    Raises:
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
    """
    card, flatbuffer = file.card, strip_notes(file.path.read_bytes())

    def open_interpreter(count: int) -> Any:
        with quiet_stderr():
            interpreter = make_interpreter(flatbuffer, count)
        if missing := set(SIGNATURES) - set(interpreter.get_signature_list()):
            raise ModelFileError(f"{file}: the model has no signature {', '.join(sorted(missing))}: export it again")
        _check_signatures(interpreter, card, file)
        return interpreter

    with refusing(file, "TFLite cannot open it"):
        return TfliteRuntime(card, open_interpreter, choose_threads(threads))


def make_interpreter(model: bytes, threads: int | None = None) -> Any:
    """An interpreter with our standard settings, so that times are comparable.

    Args:
        model: A flatbuffer.
        threads: Number of CPU threads; if None, one per core that this process may use.
    """
    return Interpreter(model_content=model, num_threads=choose_threads(threads))


def _check_signatures(interpreter: Any, card: ModelCard, name: object) -> None:
    detect, mask = (interpreter.get_signature_runner(signature) for signature in SIGNATURES)
    outputs = {*detect.get_output_details(), *mask.get_output_details()}
    check_graph(name, card, tuple(map(int, detect.get_input_details()["image"]["shape"])), outputs)

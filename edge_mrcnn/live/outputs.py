"""Where results go besides pictures: the face of such an output, lines of JSON, and files of COCO results.

`put` and `put_happening` are called by the camera loop and must return at once; `tick` is called once a second by
another thread. An output that fails is closed with one message, and the loop goes on without it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from edge_mrcnn.live.metrics import Samples
from edge_mrcnn.live.scenes import Happening
from runtimes import Detections, EdgeError, UsageError
from runtimes.redaction import redact
from runtimes.sources import Frame

logger = logging.getLogger(__name__)


class Output:
    """Takes results; does nothing with what a subclass does not ask for."""

    def put(self, frame: Frame, found: Detections) -> None:
        """Take the result of a frame."""

    def put_happening(self, happening: Happening) -> None:
        """Take what happened."""

    def tick(self) -> None:
        """A second has passed."""

    def tallies(self) -> Iterable[tuple[str, str, Samples]]:
        """Counters for the metrics: name without prefix and `_total`, help line, samples."""
        return ()

    def close(self) -> None:
        """Finish; a second call does nothing."""


class Outputs(Output):
    """Several outputs; one that fails is left out from then on."""

    def __init__(self, outputs: Iterable[Output]) -> None:
        self._outputs = list(outputs)
        self._lock = threading.Lock()

    def put(self, frame: Frame, found: Detections) -> None:
        self._each(lambda output: output.put(frame, found))

    def put_happening(self, happening: Happening) -> None:
        self._each(lambda output: output.put_happening(happening))

    def tick(self) -> None:
        self._each(lambda output: output.tick())

    def tallies(self) -> Iterable[tuple[str, str, Samples]]:
        return [tally for output in self._outputs for tally in output.tallies()]

    def close(self) -> None:
        self._each(lambda output: output.close())

    def _each(self, act: Callable[[Output], None]) -> None:
        for output in list(self._outputs):
            try:
                act(output)
            except (EdgeError, OSError) as error:
                self._drop(output, error)

    def _drop(self, output: Output, error: Exception) -> None:
        with self._lock:
            if output not in self._outputs:
                return
            self._outputs.remove(output)
        logger.error("%s stopped, everything else goes on: %s", type(output).__name__, redact(str(error)))
        with contextlib.suppress(EdgeError, OSError):
            output.close()


class CocoResults(Output):
    """A file of COCO results, `[{"image_id": ...}, ...]`, written as it grows: memory does not grow with it.

    The image id is the frame's number; with several sources it is "SOURCE/number", and for images their file name.
    """

    def __init__(self, path: Path, name_image: Callable[[Frame], int | str]) -> None:
        """Begin the file.

        Args:
            path: Where; its folder is made.
            name_image: The image id of a frame.

        Raises:
            UsageError: If it cannot be written there.
        """
        self._file: TextIO | None = open_text(path, "--coco")
        self._name_image = name_image
        self._separator = "[\n"

    def put(self, frame: Frame, found: Detections) -> None:
        if self._file is None:
            return
        for record in found.to_coco(self._name_image(frame)):
            self._file.write(self._separator + json.dumps(record))
            self._separator = ",\n"

    def close(self) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        with file:
            file.write("[]\n" if self._separator == "[\n" else "\n]\n")


class JsonLines(Output):
    """A file with one JSON object per frame: where it is from, times, detections as COCO results, counts.

    Each line is written at once, so that others can follow the file and a full disk is noticed.
    """

    def __init__(self, path: Path, count: Callable[[str], dict[str, Any]]) -> None:
        """Begin the file.

        Args:
            path: Where; its folder is made.
            count: The counts of a source at its lines and zones; empty where there are none.

        Raises:
            UsageError: If it cannot be written there.
        """
        self._file = open_text(path, "--json")
        self._count = count

    def put(self, frame: Frame, found: Detections) -> None:
        self._file.write(json.dumps(to_record(frame, found) | self._count(frame.source)) + "\n")

    def close(self) -> None:
        self._file.close()


def to_record(frame: Frame, found: Detections) -> dict[str, Any]:
    """One frame as JSON: where it is from, times, detections as COCO results."""
    return {
        "frame": frame.index,
        "time_s": round(frame.time_s, 4),
        "name": frame.name,
        "source": frame.source,
        "image_size_hw": found.image_size_hw,
        "speed_ms": {stage: round(value, 3) for stage, value in found.speed_ms.items()},
        "detections": found.to_coco(frame.index),
    }


def open_text(path: Path, option: str) -> TextIO:
    """Open a text file to write line by line; its folder is made.

    Raises:
        UsageError: If it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written: {error.strerror}") from error


def name_image(frame: Frame, *, is_alone: bool, is_images: bool) -> int | str:
    """The image id of a frame in COCO results.

    Args:
        frame: The frame.
        is_alone: Whether there is one source only.
        is_images: Whether it gives image files.
    """
    if is_images:
        stem = Path(frame.name).stem
        return int(stem) if stem.isdecimal() else Path(frame.name).name
    return frame.index if is_alone else f"{frame.source}/{frame.index}"


def summarize_places(counts: dict[str, Any]) -> Iterable[str]:
    """The counts of lines and zones as lines of text, for the end of a run."""
    for name, crossed in counts["lines"].items():
        yield f"{name}: {sum(crossed['in'].values())} in, {sum(crossed['out'].values())} out"
    for name, visited in counts["zones"].items():
        yield f"{name}: {sum(visited['inside'].values())} now, {sum(visited['entered'].values())} in all"

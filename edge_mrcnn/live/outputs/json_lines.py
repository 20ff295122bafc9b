"""A file with one JSON object per frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mrcnn.live.facts import real_area
from edge_mrcnn.live.option_spec import option
from edge_mrcnn.live.outputs.base import LoopContext, Output
from edge_mrcnn.live.outputs.text_file import TextFile
from edge_mrcnn.live.result import LiveResult
from runtimes import Detections
from runtimes.sources import Frame


@dataclass(frozen=True, kw_only=True)
class JsonSettings:
    """Options of the lines of JSON."""

    json: Path | None = option(
        None, "Write detections as JSON lines, one per frame; - for standard output.", kind="path"
    )


class JsonLines(Output):
    """Source, times, detections as COCO results, and counts of each frame.

    Each line is flushed at once, so that other programs can follow the file and a full disk is noticed.
    """

    settings_type = JsonSettings
    keeps_frames = False

    def __init__(
        self,
        path: Path,
        count: Callable[[str], dict[str, Any]],
        *,
        overwrite: bool = False,
        pixel_mm: float | None = None,
    ) -> None:
        """Prepare it; the file is created with the first line.

        Args:
            path: Path of the file; its folder is made.
            count: Counts of a source at its lines and zones; empty without any.
            overwrite: Whether an existing file is replaced.
            pixel_mm: Side of a pixel in millimetres, if known.

        Raises:
            UnavailableError: If the file cannot be written.
        """
        self.name = f"--json {path}"
        self._file = TextFile(path, overwrite=overwrite)
        self._count = count
        self._pixel_mm = pixel_mm

    @classmethod
    def open(cls, settings: JsonSettings, context: LoopContext) -> JsonLines | None:
        if settings.json is None:
            return None
        count = context.scenes.counts_if_any
        return cls(settings.json, count, overwrite=context.overwrite, pixel_mm=context.pixel_mm)

    def put(self, result: LiveResult) -> None:
        frame = result.frame
        record = to_record(frame, result.found, self._pixel_mm) | self._count(frame.source)
        self._file.write(json.dumps(record) + "\n")

    @property
    def is_finished(self) -> bool:  # type: ignore[override]
        """Whether the reader of standard output has closed it."""
        return self._file.is_unwanted

    def written(self) -> Iterable[str]:
        return self._file.written()

    def close(self) -> None:
        self._file.close()


def to_record(frame: Frame, found: Detections, pixel_mm: float | None = None) -> dict[str, Any]:
    """One frame as JSON: source, times, detections as COCO results, and areas in mm2 if the pixel size is known."""
    detections = found.to_coco(frame.index)
    for detection in detections:
        detection |= real_area(detection, pixel_mm)
    return {
        "frame": frame.index,
        "time_s": round(frame.time_s, 4),
        "name": frame.name,
        "source": frame.source,
        "image_size_hw": found.image_size_hw,
        "speed_ms": {stage: round(value, 3) for stage, value in found.speed_ms.items()},
        "detections": detections,
    }

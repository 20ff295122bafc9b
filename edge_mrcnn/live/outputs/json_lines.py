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

    json: Path | None = option(None, "Write detections, one JSON line a frame; - for standard output.", kind="path")


class JsonLines(Output):
    """Where each frame is from, times, detections as COCO results, counts.

    Each line is written at once, so that others can follow the file and a full disk is noticed.
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
        """Make one; the file is made with its first line.

        Args:
            path: Where; its folder is made.
            count: The counts of a source at its lines and zones; empty where there are none.
            overwrite: Whether a file that is there is replaced.
            pixel_mm: Side of a pixel in millimetres, where it is known.

        Raises:
            UnavailableError: If it cannot be written there.
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
        """Whether who reads standard output has had enough."""
        return self._file.is_unwanted

    def written(self) -> Iterable[str]:
        return self._file.written()

    def close(self) -> None:
        self._file.close()


def to_record(frame: Frame, found: Detections, pixel_mm: float | None = None) -> dict[str, Any]:
    """One frame as JSON: where it is from, times, detections as COCO results, with real areas where they are known."""
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

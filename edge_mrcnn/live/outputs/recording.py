"""The drawn pictures of each source as a video file, or as images."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_mrcnn.live.option_spec import option
from edge_mrcnn.live.outputs.base import LoopContext, Output
from edge_mrcnn.live.result import LiveResult
from runtimes.errors import UsageError
from runtimes.sinks import Background, GuardedSink, Reserve, Split, find_segments, name_outputs, open_sinks


@dataclass(frozen=True, kw_only=True)
class RecordingSettings:
    """Options of the recording."""

    save: Path | None = option(None, "Keep the drawn pictures: a video file, or a folder for images.", kind="path")
    keep_free: float | None = option(
        None, "MB that --save leaves free [default: 10 %, 1000 at most].", kind="number", low=0
    )
    split: float | None = option(
        None, "Begin a new video file of --save every so many minutes.",
        kind="number", low=0, is_above=True, metavar="MINUTES",
    )  # fmt: skip
    keep: float | None = option(
        None, "Of the files of --split keep so much, the oldest go first [default: until the disk has no room].",
        kind="number", low=0, is_above=True, metavar="MB",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.keep is not None and self.split is None:
            raise UsageError("--keep is for the files of --split: add --split MINUTES, or see --keep-free")
        if self.split is not None and self.save is None:
            raise UsageError("--split is for a recording: add --save FILE.mp4")

    @property
    def reserve(self) -> Reserve:
        """What the recording leaves free of the disk."""
        return Reserve() if self.keep_free is None else Reserve(share=1.0, most_bytes=int(1e6 * self.keep_free))

    @property
    def parts(self) -> Split | None:
        """How the recording is split; None for one file."""
        if self.split is None:
            return None
        return Split(every_s=60 * self.split, most_bytes=None if self.keep is None else int(1e6 * self.keep))


class Recording(Output):
    """Draws and writes in a thread of its own; a live source is never held up by a slow disk."""

    settings_type = RecordingSettings
    needs_drawing = True
    keeps_frames = False

    def __init__(self, path: Path, sinks: Mapping[str, GuardedSink], context: LoopContext) -> None:
        """Begin.

        Args:
            path: What the user named.
            sinks: Label of each source -> where its pictures go.
            context: The loop.
        """
        self.name = f"--save {path}"
        self._sinks = sinks
        self._context = context
        self._worker: Background[LiveResult] = Background(self._keep, name="pictures")

    @classmethod
    def open(cls, settings: RecordingSettings, context: LoopContext) -> Recording | None:
        if settings.save is None:
            return None
        where = settings.save, context.sources, settings.reserve, settings.parts
        return cls(settings.save, open_sinks(*where, overwrite=context.overwrite), context)

    @classmethod
    def outgoing_paths(cls, settings: RecordingSettings, sources: Iterable[str]) -> Iterable[tuple[str, Path]]:
        """A path for each source; files of an earlier recording that --keep may delete count too."""
        if settings.save is None:
            return
        for path in name_outputs(settings.save, sources).values():
            for own in (path, *(find_segments(path) if settings.split else ())):
                yield "--save", own

    def put(self, result: LiveResult) -> None:
        self._worker.put(result, may_skip=result.is_live)

    def remarks(self) -> Iterable[str]:
        if self._worker.skipped:
            yield f"{self._worker.skipped} pictures were not kept: the disk or the encoder could not follow"

    def written(self) -> Iterable[str]:
        return [text for sink in self._sinks.values() for text in sink.written()]

    def close(self) -> None:
        if not self._worker.close(self.patience_s):
            self.is_hanging = True  # nobody else may touch the files that its thread is at
            return
        for sink in self._sinks.values():
            sink.close()
        stopped = [label for label, sink in self._sinks.items() if sink.is_stopped]
        self.failure = f"the recording of {', '.join(stopped)} stopped early" if stopped else ""

    def _keep(self, result: LiveResult) -> None:
        image = result.drawn()
        start = time.perf_counter()
        source = result.frame.source
        self._sinks[source].write(image, result.frame)
        self._context.add_times(source, {"output": 1e3 * (time.perf_counter() - start)})

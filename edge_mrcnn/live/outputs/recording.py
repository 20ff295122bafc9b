"""Recording of each source with masks drawn, as a video file or as images."""

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

    save: Path | None = option(
        None, "Save frames with masks drawn: to a video file, or a folder of images.", kind="path"
    )
    keep_free: float | None = option(
        None,
        "Stop --save when the disk has less than this many MB free [default: 10 %, at most 1000].",
        kind="number",
        low=0,
    )
    split: float | None = option(
        None, "Start a new video file of --save whenever this many minutes have passed.",
        kind="number", low=0, is_above=True, metavar="MINUTES",
    )  # fmt: skip
    keep: float | None = option(
        None, "Maximum total size of the --split files; above it, the oldest are deleted [default: no limit].",
        kind="number", low=0, is_above=True, metavar="MB",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.keep is not None and self.split is None:
            raise UsageError("--keep needs --split MINUTES; to keep disk space free, use --keep-free")
        if self.split is not None and self.save is None:
            raise UsageError("--split needs --save FILE.mp4")

    @property
    def reserve(self) -> Reserve:
        """Disk space that the recording leaves free."""
        return Reserve() if self.keep_free is None else Reserve(share=1.0, most_bytes=int(1e6 * self.keep_free))

    @property
    def parts(self) -> Split | None:
        """Length and total size of the files; None for one file."""
        if self.split is None:
            return None
        return Split(every_s=60 * self.split, most_bytes=None if self.keep is None else int(1e6 * self.keep))


class Recording(Output):
    """Draws and writes in a thread of its own, so that a slow disk never delays a live source."""

    settings_type = RecordingSettings
    needs_drawing = True
    keeps_frames = False

    def __init__(self, path: Path, sinks: Mapping[str, GuardedSink], context: LoopContext) -> None:
        """Begin.

        Args:
            path: Path that the user gave.
            sinks: Label of each source -> its sink.
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
        """A path for each source; files of an earlier recording that --keep may delete count as well."""
        if settings.save is None:
            return
        for path in name_outputs(settings.save, sources).values():
            for own in (path, *(find_segments(path) if settings.split else ())):
                yield "--save", own

    def put(self, result: LiveResult) -> None:
        self._worker.put(result, may_skip=result.is_live)

    def remarks(self) -> Iterable[str]:
        if self._worker.skipped:
            yield f"{self._worker.skipped} frames were not saved: the disk or the encoder was too slow"

    def written(self) -> Iterable[str]:
        return [text for sink in self._sinks.values() for text in sink.written()]

    def close(self) -> None:
        if not self._worker.close(self.patience_s):
            self.is_hanging = True  # only its own thread may use these files
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

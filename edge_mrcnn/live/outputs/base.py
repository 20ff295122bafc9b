"""Base class of the outputs, and the loop's facts that they may use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, ParamSpec

from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.metrics import Samples
from edge_mrcnn.live.monitor import Monitor
from edge_mrcnn.live.option_spec import flag_name, options_of
from edge_mrcnn.live.outputs.text_file import STANDARD_OUTPUT
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.scenes import SceneEvent, Scenes
from edge_mrcnn.live.snapshots import SnapshotStyle
from runtimes import ModelCard
from runtimes.sources import Source

QUEUE = 100
"""Maximum number of events that wait for a server or broker; further ones are dropped and counted."""

P = ParamSpec("P")
Tally = tuple[str, str, Samples]
"""A counter for the metrics: name without prefix and `_total`, help line, samples."""


@dataclass(frozen=True, kw_only=True)
class LoopContext:
    """Facts about the loop for outputs."""

    card: ModelCard
    """The model."""
    sources: Mapping[str, Source]
    """Label -> source."""
    monitor: Monitor
    scenes: Scenes
    controls: Controls
    classes: tuple[str, ...] = ()
    """Names of the classes that are kept."""
    snapshot: SnapshotStyle | None = None
    """Style of the images of messages; None for messages without images."""
    pixel_mm: float | None = None
    """Side of a pixel in millimetres, if known."""
    overwrite: bool = False
    """Whether existing files are replaced; else new ones get numbers."""
    tallies: Callable[[], Iterable[Tally]]
    """The counters of all outputs."""
    add_times: Callable[[str, Mapping[str, float]], None]
    """Takes the label of a source and the stage times of work on a frame, in milliseconds; callable from any thread."""


@dataclass(frozen=True)
class NoSettings:
    """Settings of an output without options."""


class Output:
    """Receives results of the loop; the methods of this base class do nothing.

    `put` and `put_event` are called by the loop and must return at once; `tick` is called once a second by another
    thread. An exception in any of them switches off this output only, with one log line. Threads of an output are
    started with `start_thread`, or their functions wrapped with `guarded`, so that the same holds for them.
    """

    settings_type: ClassVar[type] = NoSettings
    """Frozen dataclass; fields made by `edge_mrcnn.live.option_spec.option` are options of the command line."""
    needs_drawing: ClassVar[bool] = False
    """Whether it uses every picture in full size."""
    keeps_frames = True
    """Whether it reads the pixels of frames without drawing."""

    name = ""
    """Name in messages, such as "--json out.jsonl"; the class name if empty."""
    is_finished = False
    """Whether the user has stopped the loop in this output."""
    patience_s: float | None = None
    """Maximum seconds that `close` waits for a disk; no limit if None."""
    is_hanging = False
    """Whether `close` gave up waiting."""
    failure = ""
    """Why its result is incomplete, in words."""
    error: BaseException | None = None
    """Exception of one of its threads."""

    @classmethod
    def open(cls, settings: Any, context: LoopContext) -> Output | None:
        """Open the output.

        Args:
            settings: An instance of `settings_type`.
            context: The loop.

        Returns:
            The output; None if the settings do not ask for it.

        Raises:
            UsageError: If the settings cannot work.
            UnavailableError: If a file, disk or port is not available now.
            MissingExtraError: If a package that it needs is not installed.
        """
        raise NotImplementedError

    @classmethod
    def outgoing_paths(cls, settings: Any, sources: Iterable[str]) -> Iterable[tuple[str, Path]]:
        """Option and path of every file or folder that it would write, for these source labels.

        The default takes all fields that hold a path; nothing is opened.
        """
        for name, _, spec in options_of(cls.settings_type):
            path = getattr(settings, name)
            if spec.kind in ("path", "file") and path not in (None, STANDARD_OUTPUT):
                yield flag_name(name, spec), path

    def wants_picture(self, source: str) -> bool:
        """Whether it may use the image of the next frame of a source; if no output does, the image is not converted.

        Called before each frame, under the lock of the stream: it must not wait.
        """
        return self.needs_drawing or self.keeps_frames

    def put(self, result: LiveResult) -> None:
        """Receive the result of a frame."""

    def put_event(self, event: SceneEvent) -> None:
        """Receive an event."""
        self.put_happening(event)

    def put_happening(self, event: SceneEvent) -> None:
        """The former name of `put_event`; outputs that define it still receive events."""

    def tick(self) -> None:
        """Called once a second."""

    def tallies(self) -> Iterable[Tally]:
        """Counters for the metrics."""
        return ()

    def greetings(self) -> Iterable[str]:
        """Lines for the user at start."""
        return ()

    def remarks(self) -> Iterable[str]:
        """Lines for the user at the end."""
        return ()

    def written(self) -> Iterable[str]:
        """Files that it wrote, for the user at the end."""
        return ()

    def close(self) -> None:
        """Finish, within `patience_s`; a second call does nothing."""

    def guarded(self, act: Callable[P, None]) -> Callable[P, None]:
        """Wrap a function for another thread: an exception switches off this output instead of ending the thread."""

        @wraps(act)
        def act_safely(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                act(*args, **kwargs)
            except BaseException as error:  # a panic of foreign code is not an Exception
                self.error = error

        return act_safely

    def start_thread(self, act: Callable[[], None], name: str) -> threading.Thread:
        """Start a daemon thread, which does not block the exit."""
        thread = threading.Thread(target=self.guarded(act), name=name, daemon=True)
        thread.start()
        return thread

"""The face of an output of the loop, and what it may know of the loop."""

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
from edge_mrcnn.live.scenes import Happening, Scenes
from edge_mrcnn.live.snapshots import SnapshotStyle
from runtimes import ModelCard
from runtimes.sources import Source

QUEUE = 100
"""Events that may wait for a server or broker; further ones are dropped and counted."""

P = ParamSpec("P")
Tally = tuple[str, str, Samples]
"""A counter for the metrics: name without prefix and `_total`, help line, samples."""


@dataclass(frozen=True, kw_only=True)
class LoopContext:
    """What an output may know of the loop."""

    card: ModelCard
    """The model."""
    sources: Mapping[str, Source]
    """Label -> source."""
    monitor: Monitor
    scenes: Scenes
    controls: Controls
    classes: tuple[str, ...] = ()
    """Names of the classes that count."""
    snapshot: SnapshotStyle | None = None
    """How pictures of messages look; None for messages without pictures."""
    pixel_mm: float | None = None
    """Side of a pixel in millimetres, where it is known."""
    overwrite: bool = False
    """Whether files that are there are replaced; else new ones get numbers."""
    tallies: Callable[[], Iterable[Tally]]
    """The counters of all outputs."""
    add_times: Callable[[str, Mapping[str, float]], None]
    """Takes the label of a source and what was done for a frame of it, in milliseconds by stage; from any thread."""


@dataclass(frozen=True)
class NoSettings:
    """The settings of an output that has none."""


class Output:
    """Takes results of the loop; does nothing with what a subclass does not ask for.

    `put` and `put_happening` are called by the loop and return at once; `tick` is called once a second by another
    thread. Whatever any of them raises ends this output, with one line, and nothing else. Work in a thread of its own
    goes through `start_thread` or `guarded`, so that the same holds there.
    """

    settings_type: ClassVar[type] = NoSettings
    """Frozen dataclass; fields made by `edge_mrcnn.live.option_spec.option` are options of the command line."""
    needs_drawing: ClassVar[bool] = False
    """Whether it looks at every picture in full size."""
    keeps_frames = True
    """Whether it reads the pixels of a frame, other than drawn ones."""

    name = ""
    """What it is called in messages, such as "--json out.jsonl"; the name of its class if empty."""
    is_finished = False
    """Whether its user wants the loop to end."""
    patience_s: float | None = None
    """Seconds that `close` may wait for a disk; as long as it takes if None."""
    is_hanging = False
    """Whether `close` gave up waiting for something that hangs."""
    failure = ""
    """Why what it made is not complete, in words."""
    error: BaseException | None = None
    """What a thread of its own raised."""

    @classmethod
    def open(cls, settings: Any, context: LoopContext) -> Output | None:
        """Begin.

        Args:
            settings: An instance of `settings_type`.
            context: The loop.

        Returns:
            The output; None if the settings do not ask for it.

        Raises:
            UsageError: If the settings cannot work.
            UnavailableError: If something that they name cannot be had at present.
            MissingExtraError: If a package that it needs is not installed.
        """
        raise NotImplementedError

    @classmethod
    def outgoing_paths(cls, settings: Any, sources: Iterable[str]) -> Iterable[tuple[str, Path]]:
        """Flag and path of every file or folder that it would write, for the labels of the sources.

        Those of all fields that name a path; nothing is opened.
        """
        for name, _, spec in options_of(cls.settings_type):
            path = getattr(settings, name)
            if spec.kind in ("path", "file") and path not in (None, STANDARD_OUTPUT):
                yield flag_name(name, spec), path

    def wants_picture(self, source: str) -> bool:
        """Whether it may look at the picture of the next frame of a source; else that stays where it was decoded.

        Asked before each frame, under the lock of the stream: it must not wait.
        """
        return self.needs_drawing or self.keeps_frames

    def put(self, result: LiveResult) -> None:
        """Take the result of a frame."""

    def put_happening(self, happening: Happening) -> None:
        """Take what happened."""

    def tick(self) -> None:
        """A second has passed."""

    def tallies(self) -> Iterable[Tally]:
        """Counters for the metrics."""
        return ()

    def greetings(self) -> Iterable[str]:
        """Lines for the user at the start."""
        return ()

    def remarks(self) -> Iterable[str]:
        """Lines for the user at the end."""
        return ()

    def written(self) -> Iterable[str]:
        """What it wrote, for the user at the end."""
        return ()

    def close(self) -> None:
        """Finish, within `patience_s`; a second call does nothing."""

    def guarded(self, act: Callable[P, None]) -> Callable[P, None]:
        """A function for another thread: what it raises ends this output instead of the thread."""

        @wraps(act)
        def act_safely(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                act(*args, **kwargs)
            except BaseException as error:  # a panic of foreign code is no Exception
                self.error = error

        return act_safely

    def start_thread(self, act: Callable[[], None], name: str) -> threading.Thread:
        """Do something in a thread that nobody waits for at exit."""
        thread = threading.Thread(target=self.guarded(act), name=name, daemon=True)
        thread.start()
        return thread

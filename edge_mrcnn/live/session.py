"""Everything around one camera loop, opened and closed together; what `run` and a program of one's own talk to.

with Session(make_settings(web=":8080"), runtime.card, stream) as live:
    for frame, found in run_loop(iter(stream), live):
        ...
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from edge_mrcnn.live.classes import choose_labels
from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.meter import Meter
from edge_mrcnn.live.monitor import Monitor
from edge_mrcnn.live.notify import Notifier
from edge_mrcnn.live.outputs.base import LoopContext, Output
from edge_mrcnn.live.outputs.group import Outputs
from edge_mrcnn.live.outputs.table import OUTPUTS
from edge_mrcnn.live.privacy import Privacy
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.scenes import SceneEvent, Scenes
from edge_mrcnn.live.settings import LiveSettings
from runtimes import Detections, ModelCard
from runtimes.errors import EdgeError, UnavailableError, one_line
from runtimes.output_paths import expect_apart
from runtimes.redaction import redact
from runtimes.sources import Frame
from runtimes.stream import Stream

TICK_S = 1.0
"""Seconds between two checks of the sources."""
RETRY_S = 30.0
"""Seconds between two attempts to open an output that was not available."""

logger = logging.getLogger(__name__)


class Session:
    """Outputs, tracking, counting, health and statistics of a stream; a context manager."""

    def __init__(
        self,
        settings: LiveSettings,
        card: ModelCard,
        stream: Stream,
        *,
        controls: Controls | None = None,
        shares_frames: bool = True,
        is_patient: bool = False,
        inputs: Iterable[Path] = (),
    ) -> None:
        """Open everything.

        Args:
            settings: Settings of the loop and its outputs.
            card: The model.
            stream: The stream to iterate; its sources are known already.
            controls: Settings that may change while the loop runs; made from `settings` by default.
            shares_frames: Whether the caller uses frames after `put`, so that nothing may be drawn into them.
            is_patient: Whether the loop starts without an output whose disk or port is not available, and retries
                later.
            inputs: Files that are read besides the sources; no output may write to them.

        Raises:
            UsageError: If an address, URL or file is not valid, the model lacks a class, or an output is an input.
            UnavailableError: If a disk, file or port is not available now, and `is_patient` is false.
            MissingExtraError: If a package for an output is not installed.
        """
        reads = [path for source in stream.sources.values() for path in source.reads()]
        expect_apart(list_outgoing(settings, stream.sources), [*inputs, *reads])
        self.controls = controls or Controls(settings.conf, stream.pause)
        keeps = choose_labels(settings.classes, settings.exclude, card.classes)
        self.scenes = Scenes(
            self.controls, is_tracked=settings.is_tracked, lines=settings.lines, zones=settings.zones, keeps=keeps,
            pixel_mm=settings.pixel_size,
        )  # fmt: skip
        self._privacy = Privacy(settings.privacy, card, stream.sources)
        self.monitor = Monitor(stream.status)
        self.meter = Meter()
        self.outputs = Outputs()
        self._sources = stream.sources
        self._settings = settings
        self._shares_frames = shares_frames
        self._is_patient = is_patient
        self._missing: dict[str, type[Output]] = {}
        """Outputs that are not available yet, by name."""
        self._tried_s = time.monotonic()
        if not shares_frames:
            stream.wants_picture = self.outputs.wants_picture
        self._model = describe(card)
        self._notifier = Notifier()
        self._states: dict[str, str] = {}
        self._stopping = threading.Event()
        self._context = LoopContext(
            card=card, sources=stream.sources, monitor=self.monitor, scenes=self.scenes, controls=self.controls,
            tallies=self.outputs.tallies, add_times=self.add_times, overwrite=settings.overwrite,
            classes=tuple(name for name, is_kept in zip(card.classes, keeps, strict=True) if is_kept),
            snapshot=settings.snapshot_style, pixel_mm=settings.pixel_size,
        )  # fmt: skip
        try:
            for name, output in OUTPUTS.items():
                self._open(name, output)
        except BaseException:
            self.outputs.close(0.0)
            raise
        self._ticker = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._ticker.start()

    def put(self, frame: Frame, found: Detections) -> tuple[Frame, Detections]:
        """Process a result of the stream; called by the loop, and never delays a live source.

        Returns:
            The frame with everything covered that must be, and the detections that count, with track numbers if
            objects are tracked.
        """
        # Protect the frame before any output gets it, also by detections that are filtered out later.
        frame = self._privacy.protect(frame, found)
        found, events = self.scenes.update(frame, found)
        self.monitor.put(frame, found)
        self.meter.frames += 1
        self.meter.add(found.speed_ms)
        self.outputs.put(self._wrap(frame, found))
        for event in events:
            self.outputs.put_event(event)
        return frame, found

    def add_times(self, source: str, times_ms: Mapping[str, float]) -> None:
        """Add the times of work on a frame besides inference, in milliseconds by stage."""
        self.meter.add(times_ms)
        self.monitor.add_times(source, times_ms)

    @property
    def is_finished(self) -> bool:
        """Whether the user of an output, such as a window, has stopped the loop."""
        return self.outputs.is_finished

    @property
    def is_hanging(self) -> bool:
        """Whether an output hangs, so that the process must end without closing it."""
        return self.outputs.is_hanging

    def close(self, limit_s: float | None = None) -> None:
        """Notify the service manager and all outputs, complete the files, and end the threads; a second call does
        nothing.

        Args:
            limit_s: Maximum seconds to wait for queued writes; no limit if None.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._notifier.stopping()
        self._ticker.join(timeout=TICK_S)
        self.outputs.close(limit_s)

    def _open(self, name: str, output: type[Output]) -> None:
        """Open one output; an unexpected exception switches it off."""
        wanted = self._settings.outputs.get(name)
        try:
            opened = output.open(output.settings_type() if wanted is None else wanted, self._context)
        except UnavailableError as error:
            if not self._is_patient:
                raise
            if name not in self._missing:
                logger.error("%s; everything else continues, and it is retried", redact(one_line(error)))
            self._missing[name] = output
            self.outputs.failures[name] = redact(one_line(error))
        except (EdgeError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a panic of foreign code is not an Exception
            self._missing.pop(name, None)
            self.outputs.switch_off(name, error)
        else:
            self.outputs.failures.pop(name, None)
            if self._missing.pop(name, None) is not None:
                logger.warning("%s: available now", name)
            if opened is not None:
                self.outputs.add(opened)

    def _retry(self) -> None:
        """Retry, from time to time, outputs that were not available."""
        if not self._missing or time.monotonic() - self._tried_s < RETRY_S:
            return
        self._tried_s = time.monotonic()
        for name, output in list(self._missing.items()):
            try:
                self._open(name, output)
            except EdgeError as error:
                del self._missing[name]
                self.outputs.switch_off(name, error)

    def _wrap(self, frame: Frame, found: Detections) -> LiveResult:
        fps = self._rate(frame.source)
        panel = f"{fps:.1f} FPS   {found.speed_ms.get('inference', 0.0):.1f} ms", self._model
        return LiveResult(
            frame, found,
            is_live=self._sources[frame.source].is_live,
            is_frame_kept=self._shares_frames or self.outputs.keeps_frames,
            is_whole_wanted=self.outputs.needs_drawing,
            panel=panel, fps=fps, overlay=self.scenes.draw, add_times=self.add_times,
        )  # fmt: skip

    def _rate(self, source: str) -> float:
        """Recent frames per second of a source, as the page shows it; 0 if no output draws it."""
        if not self.outputs.needs_drawing:
            return 0.0
        return next((status.fps for status in self.monitor.status() if status.name == source), 0.0)

    def _run(self) -> None:
        """Once a second: notify the service manager and call `tick` of the outputs."""
        while not self._stopping.wait(TICK_S):
            health = self.monitor.health()
            if health.is_ok and self.monitor.has_result:
                self._notifier.alive(health.reason)
            self._watch_states()
            self.outputs.tick()
            self._retry()

    def _watch_states(self) -> None:
        """Report changes of the sources' states."""
        for status in self.monitor.status():
            before = self._states.get(status.name)
            self._states[status.name] = status.state
            if before not in (None, status.state):
                details = {"state": status.state, "before": before, "error": status.error}
                self.outputs.put_event(SceneEvent("source", status.name, details))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def list_outgoing(settings: LiveSettings, labels: Iterable[str]) -> list[tuple[str, Path]]:
    """Option and path of everything that the outputs would write."""
    wanted = [(OUTPUTS[name], own) for name, own in settings.outputs.items()]
    return [outgoing for output, own in wanted for outgoing in output.outgoing_paths(own, labels)]


def describe(card: ModelCard) -> str:
    """A short description of the model."""
    height, width = card.input_size_hw
    return f"{card.name} {card.precision} {width}x{height} {card.target}"

"""Everything around one camera loop, opened and closed together; what `run` and a program of one's own talk to.

with Session(settings, runtime.card, stream) as live:
    for frame, found in stream:
        found = live.put(frame, found)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_mrcnn.live.access import Access, parse_address
from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.monitor import Monitor
from edge_mrcnn.live.mqtt import Mqtt, parse_broker
from edge_mrcnn.live.names import name_publicly
from edge_mrcnn.live.notify import Notifier
from edge_mrcnn.live.outputs import CocoResults, JsonLines, Output, Outputs, name_image
from edge_mrcnn.live.pictures import PictureEncoder
from edge_mrcnn.live.routes import Site
from edge_mrcnn.live.scenes import Happening, Scenes
from edge_mrcnn.live.state import describe_sources
from edge_mrcnn.live.web import PageServer
from edge_mrcnn.live.webhook import Webhook
from runtimes import Detections, ModelCard
from runtimes.counting import Line, Zone
from runtimes.draw import Array
from runtimes.redaction import hide
from runtimes.sources import Frame
from runtimes.stream import Stream

TICK_S = 1.0
"""Seconds between two looks at the sources."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """What the user wants around the loop; nothing by default."""

    conf: float = 0.5
    """Lowest score that counts, in [0, 1]; the page can change it."""
    web: str | None = None
    """[HOST:]PORT of the page."""
    web_token: str | None = None
    """Secret that opens the page; needed where others can reach it."""
    web_hosts: tuple[str, ...] = ()
    """Further names by which the page may be asked for."""
    mqtt: str | None = None
    """URL of a broker; a password in it is a secret."""
    webhook: str | None = None
    """URL that gets the events; all of it is a secret."""
    json: Path | None = None
    """File for one line of JSON per frame."""
    coco: Path | None = None
    """File for COCO results."""
    is_tracked: bool = False
    """Whether objects get numbers."""
    lines: tuple[Line, ...] = ()
    """Where crossings are counted."""
    zones: tuple[Zone, ...] = ()
    """Where visits are counted."""


class Session:
    """Page, messages, tracking, health and files around a stream; a context manager."""

    def __init__(self, settings: LiveSettings, card: ModelCard, stream: Stream, *, is_images: bool = False) -> None:
        """Open everything.

        Args:
            settings: What is wanted.
            card: The model.
            stream: What is iterated; its sources are known already.
            is_images: Whether it gives image files, which name their results.

        Raises:
            UsageError: If an address, URL or file cannot work.
            MissingExtraError: If a package for an output is not installed.
        """
        self.controls = Controls(settings.conf, stream.pause)
        self.scenes = Scenes(self.controls, is_tracked=settings.is_tracked, lines=settings.lines, zones=settings.zones)
        self.monitor = Monitor(stream.status)
        self.page: PageServer | None = None
        self._encoder: PictureEncoder | None = None
        self._notifier = Notifier()
        self._states: dict[str, str] = {}
        self._stopping = threading.Event()
        with ExitStack() as stack:
            self._outputs = Outputs(self._open_outputs(settings, card, stream, is_images=is_images))
            stack.callback(self._outputs.close)
            if settings.web:
                self._open_page(settings, settings.web, card)
                stack.callback(self._close_page)
            self._ticker = threading.Thread(target=self._run, name="ticker", daemon=True)
            self._ticker.start()
            self._stack = stack.pop_all()

    def put(self, frame: Frame, found: Detections) -> Detections:
        """Take a result of the stream; called by the loop, never waits.

        Returns:
            The detections that count, with their numbers where objects are tracked.
        """
        found, happenings = self.scenes.update(frame, found)
        self.monitor.put(frame, found)
        self._outputs.put(frame, found)
        for happening in happenings:
            self._outputs.put_happening(happening)
        if self._encoder:
            self._encoder.put(frame, found)
        return found

    def add_times(self, source: str, times_ms: Mapping[str, float]) -> None:
        """Take the times of what the loop did with a frame itself, in milliseconds by stage."""
        self.monitor.add_times(source, times_ms)

    def counts(self, source: str) -> dict[str, Any]:
        """The counts of a source at its lines and zones, for JSON; empty where there are none."""
        counts = self.scenes.counts(source)
        return counts if any(counts.values()) else {}

    def draw(self, source: str, image: Array) -> None:
        """Draw the lines and zones of a source with their counts into its picture."""
        self.scenes.draw(source, image)

    def close(self) -> None:
        """Tell the service manager and everybody else, finish files, end threads; a second call does nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._notifier.stopping()
        self._ticker.join(timeout=TICK_S)
        self._stack.close()

    def _open_outputs(
        self, settings: LiveSettings, card: ModelCard, stream: Stream, *, is_images: bool
    ) -> list[Output]:
        labels = [status.name for status in stream.status()]
        outputs: list[Output] = []
        if settings.json:
            outputs.append(JsonLines(settings.json, self.counts))
        if settings.coco:
            name = partial(name_image, is_alone=len(labels) == 1, is_images=is_images)
            outputs.append(CocoResults(settings.coco, name))
        if settings.webhook:
            outputs.append(Webhook(settings.webhook))
        if settings.mqtt:
            describe = partial(describe_sources, self.monitor, self.scenes)
            outputs.append(Mqtt(parse_broker(settings.mqtt), card, name_publicly(labels), describe))
        return outputs

    def _open_page(self, settings: LiveSettings, web: str, card: ModelCard) -> None:
        address = parse_address(web)
        if settings.web_token:
            hide(settings.web_token)
        access = Access(address, settings.web_token, settings.web_hosts)
        encoder = PictureEncoder(self.scenes.draw)
        site = Site(card, self.monitor, self.controls, self.scenes, encoder, access, self._outputs.tallies)
        try:
            self.page = PageServer(address, site)
        except BaseException:
            encoder.close()
            raise
        self._encoder = encoder

    def _close_page(self) -> None:
        if self._encoder and self.page:
            self._encoder.close()
            self.page.close()

    def _run(self) -> None:
        """Once a second: what the service manager, the broker and the user's server are told."""
        while not self._stopping.wait(TICK_S):
            health = self.monitor.health()
            if health.is_ok and self.monitor.has_result:
                self._notifier.alive(health.reason)
            self._watch_states()
            self._outputs.tick()

    def _watch_states(self) -> None:
        """Report sources whose state changed."""
        for status in self.monitor.status():
            before = self._states.get(status.name)
            self._states[status.name] = status.state
            if before not in (None, status.state):
                details = {"state": status.state, "before": before, "error": status.error}
                self._outputs.put_happening(Happening("source", status.name, details))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

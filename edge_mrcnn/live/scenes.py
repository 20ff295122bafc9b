"""The scene of each source: which detections count, their tracks, and events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any

from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.facts import describe_objects
from edge_mrcnn.live.monitor import count_classes
from runtimes import Detections
from runtimes.counting import Event, Line, PlaceCounter, Zone
from runtimes.draw import Array, Style
from runtimes.draw_places import draw_counts
from runtimes.sources import Frame
from runtimes.tracker import Tracker, TrackerConfig

ABSENT_S = 2.0
"""Seconds without any object of a class until the class counts as gone."""

CONTINUED = 0.5
"""Share of the score threshold that keeps a tracked object: a partly hidden one scores lower."""


@dataclass(frozen=True)
class SceneEvent:
    """An event for messages."""

    kind: str
    """"appeared" and "gone" (a class), "crossed", "entered" and "left" (an object), "source" (a new state)."""
    source: str
    """Label of the source."""
    details: dict[str, Any]
    """Further facts about the event, ready for JSON."""
    time_s: float = field(default_factory=time.time)
    """Time of the event, in seconds since 1970."""

    @property
    def is_in_view(self) -> bool:
        """Whether the newest frame of the source shows it."""
        return self.kind != "source"

    def to_dict(self) -> dict[str, Any]:
        """The message for JSON, with the time as RFC 3339."""
        moment = datetime.fromtimestamp(self.time_s, timezone.utc).isoformat(timespec="milliseconds")
        return {"event": self.kind, "source": self.source, "time": moment.replace("+00:00", "Z"), **self.details}


class Presence:
    """Detects classes that appear in the view and that leave it."""

    def __init__(self, pixel_mm: float | None = None) -> None:
        self._seen_s: dict[str, float] = {}
        self._pixel_mm = pixel_mm

    @property
    def classes(self) -> list[str]:
        """Classes in view."""
        return sorted(self._seen_s)

    def update(self, found: Detections, time_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """Kind and details of what changed with this frame."""
        present = count_classes(found)
        for name, count in present.items():
            if name not in self._seen_s:
                objects = describe_objects(found[found.labels == found.names.index(name)], self._pixel_mm)
                yield "appeared", {"class": name, "count": count, "objects": objects}
            self._seen_s[name] = time_s
        for name in [name for name, seen_s in self._seen_s.items() if time_s - seen_s > ABSENT_S]:
            del self._seen_s[name]
            yield "gone", {"class": name}


class SourceScene:
    """State of one source, separate from all others."""

    def __init__(
        self, *, is_tracked: bool, lines: Sequence[Line], zones: Sequence[Zone], pixel_mm: float | None = None
    ) -> None:
        self.counter = PlaceCounter(lines, zones)
        self.presence = Presence(pixel_mm)
        self._tracker = Tracker() if is_tracked else None
        self._pixel_mm = pixel_mm

    def update(self, found: Detections, time_s: float, conf: float) -> tuple[Detections, list[tuple[str, Any]]]:
        """Filter and track the detections of a frame; kind and details of its events."""
        if self._tracker is None:
            found = found[found.scores >= conf]
        else:
            self._tracker.config = TrackerConfig(high_score=conf, low_score=conf * CONTINUED)
            found = self._tracker.update(found, time_s)
        crossings = [(event.kind, self._describe(event, found)) for event in self.counter.update(found, time_s)]
        return found, [*self.presence.update(found, time_s), *crossings]

    def _describe(self, event: Event, found: Detections) -> dict[str, Any]:
        """An event and, if it is in view, its object."""
        own = found[found.ids == event.track_id] if found.ids is not None else found[:0]
        facts = describe_objects(own, self._pixel_mm)
        told = {"place": event.place, "direction": event.direction, "track_id": event.track_id, "class": event.label}
        return {**(facts[0] if facts else {}), **told}


class Scenes:
    """The scenes of all sources. `update` is called by the loop only, everything else from any thread."""

    def __init__(
        self,
        controls: Controls,
        *,
        is_tracked: bool = False,
        lines: Sequence[Line] = (),
        zones: Sequence[Zone] = (),
        keeps: Array | None = None,
        pixel_mm: float | None = None,
    ) -> None:
        """Make them.

        Args:
            controls: Controls with the score threshold.
            is_tracked: Whether objects are tracked; lines and zones need it.
            lines: Lines at which crossings are counted, in every source.
            zones: Zones in which visits are counted, in every source.
            keeps: (C,) bool, the classes that are kept; all if None.
            pixel_mm: Side of a pixel in millimetres, if known.
        """
        self._controls = controls
        self._keeps = keeps
        self._is_tracked = is_tracked or bool(lines or zones)
        self._make = partial(SourceScene, is_tracked=self._is_tracked, lines=lines, zones=zones, pixel_mm=pixel_mm)
        self._scenes: dict[str, SourceScene] = {}
        self._lock = threading.Lock()

    @property
    def lowest_score(self) -> float:
        """Lowest score of an object that is shown and counted; with tracking, it is below the score threshold."""
        conf = self._controls.conf
        return conf * CONTINUED if self._is_tracked else conf

    def update(self, frame: Frame, found: Detections) -> tuple[Detections, list[SceneEvent]]:
        """Filter and track the detections of a frame, and return its events."""
        if self._keeps is not None:
            found = found[self._keeps[found.labels]]
        with self._lock:
            if frame.source not in self._scenes:
                self._scenes[frame.source] = self._make()
            found, told = self._scenes[frame.source].update(found, frame.time_s, self._controls.conf)
        return found, [SceneEvent(kind, frame.source, details) for kind, details in told]

    def draw(self, source: str, image: Array, style: Style | None = None) -> dict[str, Any]:
        """Draw the lines and zones of a source with their counts; the same counts for JSON."""
        with self._lock:
            scene = self._scenes.get(source)
            if scene is None:
                return {"lines": {}, "zones": {}}
            draw_counts(image, scene.counter, style=style)
            return scene.counter.to_dict()

    def counts(self, source: str) -> dict[str, Any]:
        """The counts of a source at its lines and zones, for JSON."""
        with self._lock:
            scene = self._scenes.get(source)
            return scene.counter.to_dict() if scene else {"lines": {}, "zones": {}}

    def present(self, source: str) -> list[str]:
        """The classes in view of a source; a class stays for `ABSENT_S` after its last detection."""
        with self._lock:
            scene = self._scenes.get(source)
            return scene.presence.classes if scene else []

    def counts_if_any(self, source: str) -> dict[str, Any]:
        """The same; empty without lines and zones."""
        counts = self.counts(source)
        return counts if any(counts.values()) else {}


def summarize_places(counts: dict[str, Any]) -> Iterator[str]:
    """The counts of lines and zones as lines of text, for the summary of a run."""
    for name, crossed in counts["lines"].items():
        yield f"{name}: {sum(crossed['in'].values())} in, {sum(crossed['out'].values())} out"
    for name, visited in counts["zones"].items():
        yield f"{name}: {sum(visited['inside'].values())} inside, {sum(visited['entered'].values())} in total"

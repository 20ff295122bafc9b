"""What goes on in front of each source: who counts, who is who, and what happened."""

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
"""Seconds without an object of a class after which the class counts as gone."""

CONTINUED = 0.5
"""Share of the threshold from which an object that is tracked goes on to count: a half-hidden one scores less."""


@dataclass(frozen=True)
class Happening:
    """Something worth a message."""

    kind: str
    """"appeared" and "gone" (a class), "crossed", "entered" and "left" (an object), "source" (a new state)."""
    source: str
    """Label of the source."""
    details: dict[str, Any]
    """What else there is to say, ready for JSON."""
    time_s: float = field(default_factory=time.time)
    """When, in seconds since 1970."""

    @property
    def is_in_view(self) -> bool:
        """Whether the newest frame of the source shows it."""
        return self.kind != "source"

    def to_dict(self) -> dict[str, Any]:
        """The message for JSON, with the time as RFC 3339."""
        moment = datetime.fromtimestamp(self.time_s, timezone.utc).isoformat(timespec="milliseconds")
        return {"event": self.kind, "source": self.source, "time": moment.replace("+00:00", "Z"), **self.details}


class Presence:
    """Notices classes that come into a picture and that are gone from it."""

    def __init__(self, pixel_mm: float | None = None) -> None:
        self._seen_s: dict[str, float] = {}
        self._pixel_mm = pixel_mm

    @property
    def classes(self) -> list[str]:
        """Those that are there."""
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
    """One source: keeps what must not be shared with another."""

    def __init__(
        self, *, is_tracked: bool, lines: Sequence[Line], zones: Sequence[Zone], pixel_mm: float | None = None
    ) -> None:
        self.counter = PlaceCounter(lines, zones)
        self.presence = Presence(pixel_mm)
        self._tracker = Tracker() if is_tracked else None
        self._pixel_mm = pixel_mm

    def update(self, found: Detections, time_s: float, conf: float) -> tuple[Detections, list[tuple[str, Any]]]:
        """Choose and number the detections of a frame; kind and details of what happened."""
        if self._tracker is None:
            found = found[found.scores >= conf]
        else:
            self._tracker.config = TrackerConfig(high_score=conf, low_score=conf * CONTINUED)
            found = self._tracker.update(found, time_s)
        crossings = [(event.kind, self._describe(event, found)) for event in self.counter.update(found, time_s)]
        return found, [*self.presence.update(found, time_s), *crossings]

    def _describe(self, event: Event, found: Detections) -> dict[str, Any]:
        """What happened to an object, and the object itself where it is in view."""
        own = found[found.ids == event.track_id] if found.ids is not None else found[:0]
        facts = describe_objects(own, self._pixel_mm)
        told = {"place": event.place, "direction": event.direction, "track_id": event.track_id, "class": event.label}
        return {**(facts[0] if facts else {}), **told}


class Scenes:
    """All sources. `update` belongs to the loop, everything else to any thread."""

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
            controls: Where the score threshold comes from.
            is_tracked: Whether objects get numbers; lines and zones need them.
            lines: Where crossings are counted, in every source.
            zones: Where visits are counted, in every source.
            keeps: (C,) bool, the classes that count; all if None.
            pixel_mm: Side of a pixel in millimetres, where it is known.
        """
        self._controls = controls
        self._keeps = keeps
        self._make = partial(
            SourceScene, is_tracked=is_tracked or bool(lines or zones), lines=lines, zones=zones, pixel_mm=pixel_mm
        )
        self._scenes: dict[str, SourceScene] = {}
        self._lock = threading.Lock()

    def update(self, frame: Frame, found: Detections) -> tuple[Detections, list[Happening]]:
        """Choose and number the detections of a frame, and say what happened."""
        if self._keeps is not None:
            found = found[self._keeps[found.labels]]
        with self._lock:
            if frame.source not in self._scenes:
                self._scenes[frame.source] = self._make()
            found, happened = self._scenes[frame.source].update(found, frame.time_s, self._controls.conf)
        return found, [Happening(kind, frame.source, details) for kind, details in happened]

    def draw(self, source: str, image: Array, style: Style | None = None) -> None:
        """Draw the lines and zones of a source with their counts."""
        with self._lock:
            if source in self._scenes:
                draw_counts(image, self._scenes[source].counter, style=style)

    def counts(self, source: str) -> dict[str, Any]:
        """The counts of a source at its lines and zones, for JSON."""
        with self._lock:
            scene = self._scenes.get(source)
            return scene.counter.to_dict() if scene else {"lines": {}, "zones": {}}

    def present(self, source: str) -> list[str]:
        """The classes that are in view of a source, with some patience: see `ABSENT_S`."""
        with self._lock:
            scene = self._scenes.get(source)
            return scene.presence.classes if scene else []

    def counts_if_any(self, source: str) -> dict[str, Any]:
        """The same; empty where there are no lines and zones."""
        counts = self.counts(source)
        return counts if any(counts.values()) else {}


def summarize_places(counts: dict[str, Any]) -> Iterator[str]:
    """The counts of lines and zones as lines of text, for the end of a run."""
    for name, crossed in counts["lines"].items():
        yield f"{name}: {sum(crossed['in'].values())} in, {sum(crossed['out'].values())} out"
    for name, visited in counts["zones"].items():
        yield f"{name}: {sum(visited['inside'].values())} now, {sum(visited['entered'].values())} in all"

"""Objects that cross a line or are in a zone, each counted once by its track number from `runtimes.tracker`.

The position of an object is the middle of the lower edge of its box. Nothing changes close to a border, so that a box
that jitters there counts only once. An object that is hidden for a while is counted by where it reappears.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.errors import UsageError
from runtimes.types import Detections

Array = NDArray[Any]
Point = tuple[float, float]

MARGIN = 0.005
"""Distance beyond a border from which an object has passed it, in shares of the image's smaller side."""
FORGET_S = 2.0
"""Seconds without detection after which an object has left its zone; as `TrackerConfig.max_lost_s`."""


@dataclass(frozen=True)
class Line:
    """A line from one point to another. Seen along the line, "in" means from left to right."""

    name: str
    start: Point
    """x y in shares of the image's width and height, from the upper left corner."""
    end: Point
    """x y, the same."""


@dataclass(frozen=True)
class Zone:
    """A polygon."""

    name: str
    points: tuple[Point, ...]
    """Corners, each x y in shares of the image's width and height, from the upper left corner."""


class Event(NamedTuple):
    """An event of one object."""

    kind: str
    """"crossed", "entered" or "left"."""
    place: str
    """Name of the line or zone."""
    direction: str
    """"in" or "out"."""
    track_id: int
    label: str
    """Name of the class."""


@dataclass
class LineCount:
    """Crossings of one line."""

    into: Counter[str] = field(default_factory=Counter)
    """Objects that crossed from left to right, by class."""
    out: Counter[str] = field(default_factory=Counter)
    """Objects that crossed from right to left, by class."""


@dataclass
class ZoneCount:
    """Objects of one zone."""

    inside: dict[int, str] = field(default_factory=dict)
    """Track number of each object inside -> its class."""
    entered: Counter[str] = field(default_factory=Counter)
    """Objects that entered or were inside when first seen, by class."""


class PlaceCounter:
    """Counts the objects of one source at its lines and zones."""

    def __init__(self, lines: Iterable[Line] = (), zones: Iterable[Zone] = ()) -> None:
        self.lines = {line: LineCount() for line in lines}
        self.zones = {zone: ZoneCount() for zone in zones}
        self._seen_s: dict[int, float] = {}
        self._clear_of: dict[Line, dict[int, Array]] = defaultdict(dict)

    def update(self, found: Detections, time_s: float) -> list[Event]:
        """Process the tracked detections of the next frame.

        Args:
            found: Detections with `ids`; those without a number do not count.
            time_s: Time of the frame, in seconds.

        Returns:
            Events since the last frame.
        """
        height, width = found.image_size_hw
        scale = np.array([width, height], dtype=np.float64)
        objects = list(_locate(found))
        for number, _, _ in objects:
            self._seen_s[number] = time_s
        gone = [number for number, seen_s in self._seen_s.items() if seen_s < time_s - FORGET_S]
        events: list[Event] = []
        for number in gone:
            events += self._forget(number)
        for number, label, position in objects:
            events += self._cross(number, label, position, scale)
            events += self._visit(number, label, position, scale)
        return events

    def to_dict(self) -> dict[str, Any]:
        """The counts for JSON."""
        lines = {}
        for line, crossed in self.lines.items():
            lines[line.name] = {"in": dict(crossed.into), "out": dict(crossed.out)}
        zones = {}
        for zone, visited in self.zones.items():
            inside = Counter(visited.inside.values())
            zones[zone.name] = {"inside": dict(inside), "entered": dict(visited.entered)}
        return {"lines": lines, "zones": zones}

    def _cross(self, number: int, label: str, position: Array, scale: Array) -> Iterator[Event]:
        """Compare with the last position that was clear of each line."""
        for line, count in self.lines.items():
            start, end = np.array(line.start) * scale, np.array(line.end) * scale
            if abs(_side(start, end, position)) < MARGIN * scale.min():
                continue
            last = self._clear_of[line].get(number)
            self._clear_of[line][number] = position
            if last is None or not _is_crossing(last, position, start, end):
                continue
            if _side(start, end, position) > 0:
                count.into[label] += 1
                yield Event("crossed", line.name, "in", number, label)
            else:
                count.out[label] += 1
                yield Event("crossed", line.name, "out", number, label)

    def _visit(self, number: int, label: str, position: Array, scale: Array) -> Iterator[Event]:
        """Update the visits of each zone with an object's position."""
        for zone, count in self.zones.items():
            corners = (np.array(zone.points) * scale).astype(np.float32)
            depth = cv2.pointPolygonTest(corners, (float(position[0]), float(position[1])), True)
            is_at_border = abs(depth) < MARGIN * scale.min()
            is_inside = depth > 0
            was_inside = number in count.inside
            if is_at_border or is_inside == was_inside:
                continue
            if is_inside:
                count.inside[number] = label
                count.entered[label] += 1
                yield Event("entered", zone.name, "in", number, label)
            else:
                del count.inside[number]
                yield Event("left", zone.name, "out", number, label)

    def _forget(self, number: int) -> Iterator[Event]:
        del self._seen_s[number]
        for positions in self._clear_of.values():
            positions.pop(number, None)
        for zone, count in self.zones.items():
            if number in count.inside:
                yield Event("left", zone.name, "out", number, count.inside.pop(number))


def _locate(found: Detections) -> Iterator[tuple[int, str, Array]]:
    """Number, class and (2,) x y position in pixels of each numbered object."""
    ids = np.empty(0, np.int64) if found.ids is None else found.ids
    for number, label, (x0, _, x1, y1) in zip(ids.tolist(), found.labels, found.boxes_xyxy.tolist(), strict=False):
        if number >= 0:
            yield number, found.names[label], np.array([(x0 + x1) / 2, y1])


def _side(start: Array, end: Array, point: Array) -> float:
    """Distance of a point from the line through two others, in pixels; positive on the right of start -> end."""
    along = end - start
    offset = point - start
    cross_product = along[0] * offset[1] - along[1] * offset[0]
    return float(cross_product / max(np.hypot(*along), 1e-9))


def _is_crossing(before: Array, after: Array, start: Array, end: Array) -> bool:
    """Whether the segment between two points meets the segment between two others."""
    changes_sides = _side(start, end, before) * _side(start, end, after) < 0
    if not changes_sides:
        return False
    return _side(before, after, start) * _side(before, after, end) <= 0


def parse_line(text: str, name: str) -> Line:
    """Read "[NAME=]x0,y0,x1,y1".

    Args:
        text: Text of the user; coordinates in shares of the image, in [0, 1].
        name: The name if the text has none.

    Raises:
        UsageError: If the text is not a line.
    """
    name, numbers = _split(text, name)
    values = _parse_shares(f"--line {text}", numbers)
    if len(values) != 4 or values[:2] == values[2:]:
        raise UsageError(f"--line {text}: expected two different points as x0,y0,x1,y1, such as 0,0.5,1,0.5")
    return Line(name, (values[0], values[1]), (values[2], values[3]))


def parse_zone(text: str, name: str) -> Zone:
    """Read "[NAME=]x,y x,y x,y ..."; arguments and errors as for `parse_line`."""
    name, corners = _split(text, name)
    values = _parse_shares(f"--zone {text}", corners.replace(" ", ","))
    if len(values) < 6 or len(values) % 2:
        raise UsageError(f"--zone {text}: expected three or more points, such as '0.1,0.1 0.9,0.1 0.5,0.9'")
    return Zone(name, tuple(zip(values[::2], values[1::2], strict=True)))


def _split(text: str, name: str) -> tuple[str, str]:
    given, equals, rest = text.partition("=")
    if not equals:
        return name, text.strip()
    return given.strip() or name, rest.strip()


def _parse_shares(option: str, text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",") if part]
    except ValueError:
        raise UsageError(f"{option}: expected numbers, got {text!r}") from None
    if not all(0 <= value <= 1 for value in values):
        raise UsageError(f"{option}: expected shares of the image, from 0 to 1")
    return values

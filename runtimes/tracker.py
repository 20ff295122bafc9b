"""Object tracking from boxes alone, with numpy only.

The method follows ByteTrack (arXiv 2110.06864): confident detections are matched with all tracks first, then those with
lower scores with the remaining tracks, so that a partly hidden object keeps its number. Boxes are enlarged before they
are compared (C-BIoU, arXiv 2211.14317), so that a fast object of a slow camera still matches its track. Motion is one
velocity per track in pixels per second, not per frame, because frames of a live source come at irregular intervals.
Appearance is not used: it would need a second network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.types import Detections

Array = NDArray[Any]

NO_ID = -1
"""Track number of a detection without a confirmed track."""
_POSITION_GAIN, _VELOCITY_GAIN = 0.85, 0.3
"""Gains of the alpha-beta filter that updates a track with a new box."""
_STEADY_HITS, _STEADY_S = 3, 0.25
"""Detections after which the velocity of a track is known, and seconds without one after which it no longer is."""
_FRAME_S = 1 / 25
"""Time between two frames without time stamps, such as images of a folder."""


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Settings of the tracker."""

    high_score: float = 0.5
    """Score from which a detection can start a track, in [0, 1]."""
    low_score: float = 0.1
    """Score from which a detection can continue a track, in [0, 1]."""
    min_overlap: float = 0.45
    """Minimum IoU of the enlarged boxes of a detection and a track with steady motion, in [0, 1]."""
    min_overlap_unsteady: float = 0.25
    """The same for a track whose position is less certain: its velocity is unknown, or it had no recent detection."""
    widening: float = 0.3
    """Enlargement of a box on each side before it is compared, in shares of its size."""
    max_lost_s: float = 2.0
    """Seconds without detection after which a track is removed."""
    min_hits: int = 2
    """Consecutive detections that a track needs before it gets a number; a single one is often a false positive."""

    def __post_init__(self) -> None:
        if not 0 <= self.low_score <= self.high_score <= 1:
            raise ValueError(
                f"expected 0 <= low_score <= high_score <= 1, got low_score {self.low_score}, "
                f"high_score {self.high_score}"
            )


class Extent:
    """Position and velocity of an object along one axis by an alpha-beta filter, in pixels and seconds."""

    def __init__(self, low: float, high: float) -> None:
        self._center = (low + high) / 2
        self._size = high - low
        self._velocity = 0.0

    def predict(self, elapsed_s: float) -> tuple[float, float]:
        """Both ends, the given time after the last detection."""
        center, half = self._center + self._velocity * elapsed_s, self._size / 2
        return center - half, center + half

    def update(self, low: float, high: float, elapsed_s: float, velocity_gain: float) -> None:
        """Update with a new detection, the given time after the last one."""
        predicted = self._center + self._velocity * elapsed_s
        residual = (low + high) / 2 - predicted
        self._velocity += velocity_gain * residual / elapsed_s
        self._center = predicted + _POSITION_GAIN * residual
        self._size += _POSITION_GAIN * (high - low - self._size)


class Track:
    """One object over time."""

    # Of plain numbers: for two of them NumPy takes ten times as long.

    def __init__(self, box_xyxy: Sequence[float], label: int, time_s: float) -> None:
        self.id = NO_ID
        self.label = label
        self.hits = 1
        self.seen_s = time_s
        x0, y0, x1, y1 = box_xyxy
        self._x, self._y = Extent(x0, x1), Extent(y0, y1)

    def predict(self, time_s: float) -> tuple[float, float, float, float]:
        """Box x0 y0 x1 y1 in pixels, predicted for this time."""
        elapsed_s = time_s - self.seen_s
        (x0, x1), (y0, y1) = self._x.predict(elapsed_s), self._y.predict(elapsed_s)
        return x0, y0, x1, y1

    def is_steady(self, time_s: float) -> bool:
        """Whether the object must be close to its predicted position."""
        return self.hits >= _STEADY_HITS and time_s - self.seen_s <= _STEADY_S

    def update(self, box_xyxy: Sequence[float], time_s: float) -> None:
        """Update the track with a detection, at a later time than the last."""
        x0, y0, x1, y1 = box_xyxy
        elapsed_s = time_s - self.seen_s
        # The second detection gives the first velocity, so there is nothing to smooth yet.
        gain = 1.0 if self.hits == 1 else _VELOCITY_GAIN
        self._x.update(x0, x1, elapsed_s, gain)
        self._y.update(y0, y1, elapsed_s, gain)
        self.seen_s = time_s
        self.hits += 1


class Tracker:
    """Assigns track numbers to the detections of one source; use one instance per source."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._tracks: list[Track] = []
        self._next_id = 1
        self._time_s = -np.inf

    def update(self, found: Detections, time_s: float) -> Detections:
        """Track the detections of the next frame.

        Args:
            found: All detections of the model, with low scores as well.
            time_s: Time of the frame, in seconds; times that do not increase count as 25 frames per second.

        Returns:
            The detections that reach `high_score`, and those with lower scores that continue a track, with their `ids`;
            an object has `NO_ID` until it was detected `min_hits` times in a row.
        """
        self._time_s = time_s if time_s > self._time_s else self._time_s + _FRAME_S
        is_high = found.scores >= self.config.high_score
        is_low = ~is_high & (found.scores >= self.config.low_score)
        ids = np.full(len(found), NO_ID, dtype=np.int64)
        unmatched = self._match(found, np.flatnonzero(is_high), self._tracks, ids)
        current = [track for track in self._waiting() if track.id != NO_ID]
        self._match(found, np.flatnonzero(is_low), current, ids)
        self._forget()
        self._begin(found, unmatched)
        return replace(found, ids=ids)[is_high | (ids != NO_ID)]

    def _waiting(self) -> list[Track]:
        """Tracks without a detection in this frame."""
        return [track for track in self._tracks if track.seen_s < self._time_s]

    def _match(self, found: Detections, rows: Array, tracks: list[Track], ids: Array) -> list[int]:
        """Match tracks with detections, write their numbers, and return the remaining rows."""
        if not (len(rows) and tracks):
            return list(rows.tolist())
        predicted = np.array([track.predict(self._time_s) for track in tracks])
        overlap = measure_overlap(found.boxes_xyxy[rows], predicted, self.config.widening)
        classes = np.array([track.label for track in tracks])
        is_same_class = found.labels[rows][:, None] == classes
        min_overlaps = [self._min_overlap(track) for track in tracks]
        is_possible = is_same_class & (overlap >= min_overlaps)
        left = set(rows.tolist())
        for first, second in choose_pairs(overlap, is_possible):
            row = int(rows[first])
            ids[row] = self._continue(tracks[second], found.boxes_xyxy[row].tolist())
            left.discard(row)
        return sorted(left)

    def _min_overlap(self, track: Track) -> float:
        is_steady = track.is_steady(self._time_s)
        return self.config.min_overlap if is_steady else self.config.min_overlap_unsteady

    def _continue(self, track: Track, box_xyxy: Sequence[float]) -> int:
        track.update(box_xyxy, self._time_s)
        if track.id == NO_ID and track.hits >= self.config.min_hits:
            track.id, self._next_id = self._next_id, self._next_id + 1
        return track.id

    def _forget(self) -> None:
        """Remove tracks without detection for too long, and unconfirmed ones at once."""
        since = self._time_s - self.config.max_lost_s
        self._tracks = [t for t in self._tracks if t.seen_s == self._time_s or (t.id != NO_ID and t.seen_s >= since)]

    def _begin(self, found: Detections, rows: list[int]) -> None:
        for row in rows:
            box = found.boxes_xyxy[row].tolist()
            self._tracks.append(Track(box, int(found.labels[row]), self._time_s))


def measure_overlap(first_xyxy: Array, second_xyxy: Array, widening: float) -> Array:
    """(N, M) float64 IoU of (N, 4) and (M, 4) boxes, each enlarged by a share of its own size."""
    first = _widen(first_xyxy, widening)[:, None]
    second = _widen(second_xyxy, widening)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    first_area = (first[..., 2:] - first[..., :2]).prod(axis=-1)
    second_area = (second[..., 2:] - second[..., :2]).prod(axis=-1)
    union = first_area + second_area - shared
    overlap: Array = shared / np.maximum(union, 1e-9)
    return overlap


def _widen(boxes_xyxy: Array, widening: float) -> Array:
    boxes = boxes_xyxy.astype(np.float64)
    margin = widening * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    widened: Array = boxes + margin * np.array([-1, -1, 1, 1])
    return widened


def choose_pairs(overlap: Array, is_possible: Array) -> list[tuple[int, int]]:
    """The possible pairs of rows and columns with the largest total overlap; each row and column is used once at most.

    Args:
        overlap: (N, M) intersections over union, above 0 where a pair is possible.
        is_possible: (N, M) bool.
    """
    choices, rivals = is_possible.sum(axis=1), is_possible.sum(axis=0)
    # Most objects have one possible track, which has no other possible object: pair them first.
    is_alone = is_possible & (choices == 1)[:, None] & (rivals == 1)
    pairs = list(zip(*(axis.tolist() for axis in np.nonzero(is_alone)), strict=True))
    rows = np.flatnonzero((choices > 0) & ~is_alone.any(axis=1))
    columns = np.flatnonzero((rivals > 0) & ~is_alone.any(axis=0))
    if len(rows):
        rest = np.ix_(rows, columns)
        # An impossible pair costs as much as no pair. If it cost more, avoiding it would change other pairs.
        cost = np.where(is_possible[rest], 1 - overlap[rest], 1.0)
        chosen = [(int(rows[first]), int(columns[second])) for first, second in assign(cost)]
        pairs += [pair for pair in chosen if is_possible[pair]]
    return sorted(pairs)


def assign(cost: Array) -> list[tuple[int, int]]:
    """Pairs of rows and columns with the least total cost; all rows or all columns are used, whichever are fewer.

    Args:
        cost: (N, M) finite numbers.

    Returns:
        min(N, M) pairs, in the order of the rows.

    Source: the Hungarian method with potentials, O(N^2 M) (Kuhn 1955; Jonker and Volgenant 1987).
    """
    if cost.shape[0] > cost.shape[1]:
        return sorted((row, column) for column, row in assign(cost.T))
    rows, columns = cost.shape
    row_potential = np.zeros(rows)
    column_potential = np.zeros(columns)
    owner = np.full(columns, -1)
    for row in range(rows):
        _augment(cost, row, owner, row_potential, column_potential)
    return sorted((int(owner[column]), column) for column in range(columns) if owner[column] >= 0)


def _augment(cost: Array, row: int, owner: Array, row_potential: Array, column_potential: Array) -> None:
    """Assign a column to a row by the cheapest augmenting path; changes owners and potentials in place."""
    columns = cost.shape[1]
    distance = np.full(columns, np.inf)  # cost of the cheapest path to each column so far
    parent = np.full(columns, -1)  # the previous column in that path
    is_done = np.zeros(columns, dtype=bool)
    current, length, last = row, 0.0, -1
    while True:
        reach = length + cost[current] - row_potential[current] - column_potential
        is_shorter = ~is_done & (reach < distance)
        distance[is_shorter] = reach[is_shorter]
        parent[is_shorter] = last
        last = int(np.where(is_done, np.inf, distance).argmin())
        length = float(distance[last])
        is_done[last] = True
        if owner[last] < 0:
            break
        current = int(owner[last])
    row_potential[row] += length
    visited = np.flatnonzero(is_done & (owner >= 0))
    saved = length - distance[visited]
    row_potential[owner[visited]] += saved
    column_potential[visited] -= saved
    while last >= 0:
        previous = int(parent[last])
        owner[last] = owner[previous] if previous >= 0 else row
        last = previous

from __future__ import annotations

import itertools

import numpy as np
import pytest
from stream_servers import MjpegServer

from runtimes import FakeRuntime, UsageError
from runtimes.sources import Frame, Source, open_source
from runtimes.stream import Stream, stillness

SIZE_HW = (256, 384)


class Corridor(Source):
    """A video of noise in which a box of 24 pixels moves in some frames."""

    def __init__(self, places, *, noise=4.0, contrast=60):
        super().__init__("corridor")
        self._places, self._noise, self._contrast = places, noise, contrast

    def __iter__(self):
        chance = np.random.default_rng(0)
        for index, place in enumerate(self._places):
            image = 100 + self._noise * chance.standard_normal((*SIZE_HW, 3))
            if place is not None:
                image[64:160, place : place + 48] -= self._contrast
            yield Frame(image.clip(0, 255).astype(np.uint8), index, index / 25, self.name)


class Counting(FakeRuntime):
    """Counts its calls."""

    runs = 0

    def run(self, x):
        self.runs += 1
        return super().run(x)


def go(source, **options):
    model = Counting()
    stream = Stream(model, source, **options)
    results = list(stream)
    (status,) = stream.status()
    assert status.received == status.processed + sum(status.dropped.values()) + status.in_flight
    return model, results, status


def test_empty_corridor_is_inferred_once_and_every_frame_has_a_result():
    model, results, status = go(Corridor([None] * 20), spares_still=True)
    assert model.runs == 1 and status.processed == 20 and status.still == 19
    assert [frame.index for frame, _ in results] == list(range(20))
    assert all(len(found) == 1 for _, found in results)
    assert "inference" in results[0][1].speed_ms and not results[1][1].speed_ms


def test_what_moves_is_inferred():
    places = [None] * 5 + [100, 110, 120, 130] + [130] * 6
    model, _, status = go(Corridor(places), spares_still=True)
    assert model.runs == 5 and status.still == len(places) - 5


def test_slow_motion_is_detected_after_enough_displacement():
    model, _, _ = go(Corridor([100 + step for step in range(24)], noise=0), spares_still=True)
    assert 3 <= model.runs < 24


def test_without_the_option_every_frame_is_inferred():
    model, _, status = go(Corridor([None] * 5))
    assert model.runs == 5 and status.still == 0


def test_a_still_picture_is_looked_at_again_after_a_while(monkeypatch):
    monkeypatch.setattr(stillness, "LONGEST_S", 0.0)
    model, _, _ = go(Corridor([None] * 5), spares_still=True)
    assert model.runs == 5


def test_camera_is_taken_at_the_rate_that_it_says():
    with MjpegServer(fps=50) as server:
        stream = Stream(FakeRuntime(), open_source(f"{server.url}#infer=10"))
        frames = iter(stream)
        times = [frame.arrived for frame, _ in itertools.islice(frames, 8)]
        (status,) = stream.status()
        frames.close()
    assert times[-1] - times[0] == pytest.approx(0.7, abs=0.25)
    assert status.dropped["limited"] > 8
    assert status.received == status.processed + sum(status.dropped.values()) + status.in_flight


def test_rate_that_is_none_is_refused():
    with pytest.raises(UsageError, match="infer=0: expected frames per second"):
        open_source("0#infer=0")

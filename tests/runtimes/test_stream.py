from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from runtimes import FakeRuntime, SourceError
from runtimes.sources import Frame, Source
from runtimes.stream import Counts, LatestFrame, Stream

IMAGE = np.zeros((48, 64, 3), np.uint8)


class ScriptedSource(Source):
    """Gives so many frames per opening, at a pace, then is lost; a lost opening gives none."""

    def __init__(self, openings, *, live=True, reconnects=False, pace_s=0.0):
        super().__init__("scripted")
        self.is_live, self.can_reconnect = live, reconnects
        self.closed = 0
        self._openings, self._pace_s = iter(openings), pace_s

    def __iter__(self):
        try:
            for index in range(next(self._openings, 0)):
                time.sleep(self._pace_s)
                yield Frame(IMAGE, index, 0.0, self.name)
            if self.is_live:
                raise SourceError("scripted: lost")
        finally:
            self.closed += 1


def test_every_frame_of_a_file_is_inferred():
    stream = Stream(FakeRuntime(latency_s=0.002), ScriptedSource([20], live=False))
    assert [frame.index for frame, _ in stream] == list(range(20))
    assert stream.counts == Counts(received=20, processed=20)


def test_live_source_drops_late_frames_and_the_count_balances():
    stream = Stream(FakeRuntime(latency_s=0.02), ScriptedSource([100], pace_s=0.002))
    seen = []
    with pytest.raises(SourceError, match="lost"):
        for frame, found in stream:
            seen.append(frame.index)
            assert len(found) == 1
            assert stream.counts.in_flight in (0, 1)
    assert seen == sorted(set(seen))
    assert len(seen) < 50 and seen[-1] == 99
    assert stream.counts.received == 100 == stream.counts.processed + stream.counts.dropped


def test_a_caller_that_stops_early_frees_the_source():
    source = ScriptedSource([10**6], pace_s=0.001)
    stream = Stream(FakeRuntime(), source)
    frames = iter(stream)
    list(itertools.islice(frames, 3))
    frames.close()
    assert source.closed == 1
    assert stream.counts.in_flight == 0
    assert not [t for t in threading.enumerate() if t.name == "frames"]


def test_source_that_never_opened_is_an_error_at_once():
    stream = Stream(FakeRuntime(), ScriptedSource([0], reconnects=True))
    with pytest.raises(SourceError, match="lost"):
        next(iter(stream))


def test_lost_network_stream_is_opened_again():
    source = ScriptedSource([3, 0, 0, 3], reconnects=True, pace_s=0.001)
    counts = Counts()
    reader = LatestFrame(source, counts, backoff_s=(0.001, 0.002))
    reader.start()
    frames = []
    while counts.received < 6:
        frames.append(reader.take())
    reader.stop()
    assert (counts.received, counts.reconnects) == (6, 1)
    assert [f.index for f in frames] == sorted({f.index for f in frames})
    assert [f.time_s for f in frames] == sorted(f.time_s for f in frames)
    assert frames[-1].index >= 3


def test_failure_of_the_reading_thread_reaches_the_caller():
    class Broken(ScriptedSource):
        def __iter__(self):
            yield Frame(IMAGE, 0, 0.0, self.name)
            raise RuntimeError("driver gone mad")

    with pytest.raises(RuntimeError, match="gone mad"):
        list(Stream(FakeRuntime(), Broken([])))


def test_lost_camera_is_not_opened_again():
    source = ScriptedSource([2, 2], pace_s=0.01)
    with pytest.raises(SourceError):
        list(Stream(FakeRuntime(), source))
    assert source.closed == 1


def test_stop_interrupts_the_pause_before_a_reconnection():
    reader = LatestFrame(ScriptedSource([1, 0], reconnects=True), Counts(), backoff_s=(60.0,))
    reader.start()
    assert reader.take() is not None
    start = time.monotonic()
    reader.stop()
    assert time.monotonic() - start < 0.5

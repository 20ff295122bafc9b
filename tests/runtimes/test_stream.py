from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest

from runtimes import FakeRuntime, RawOutputs, SourceError, UsageError
from runtimes.errors import InferenceError
from runtimes.sources import Frame, Source
from runtimes.stream import Counts, Stream, backoff, loop

IMAGE = np.zeros((48, 64, 3), np.uint8)


class ScriptedSource(Source):
    """Gives this number of frames per opening, at a pace, then is lost; a lost opening gives none."""

    def __init__(self, openings, *, live=True, reconnects=False, pace_s=0.0, name="scripted", code="lost"):
        super().__init__(name)
        self.is_live, self.can_reconnect = live, reconnects
        self.opened = self.closed = 0
        self._openings, self._pace_s, self._code = iter(openings), pace_s, code

    def __iter__(self):
        self.opened += 1
        try:
            for index in range(next(self._openings, 0)):
                time.sleep(self._pace_s)
                yield Frame(IMAGE, index, 0.0, self.name)
            if self.is_live:
                raise SourceError("scripted: lost", code=self._code)
        finally:
            self.closed += 1


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(backoff, "SHORTEST_S", 0.002)


@pytest.fixture(autouse=True)
def threads_end():
    """Fail if a test leaves a thread."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 2
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


def assert_balanced(stream):
    for status in stream.status():
        assert status.received == status.processed + sum(status.dropped.values()) + status.in_flight, status


class TestFiles:
    def test_every_frame_is_inferred_in_order(self):
        stream = Stream(FakeRuntime(latency_s=0.002), ScriptedSource([20], live=False))
        assert [frame.index for frame, _ in stream] == list(range(20))
        assert stream.counts == Counts(received=20, processed=20)
        assert [s.state for s in stream.status()] == ["ended"]

    def test_memory_is_bounded_when_the_caller_is_slow(self):
        source = ScriptedSource([1000], live=False)
        stream = Stream(FakeRuntime(), source)
        results = iter(stream)
        next(results)
        time.sleep(0.1)
        assert stream.counts.received <= 8
        results.close()
        assert_balanced(stream)

    def test_reading_inferring_and_drawing_overlap(self):
        """Three stages of 40 ms take little more than 40 ms a frame, not 120."""
        stream = Stream(FakeRuntime(latency_s=0.04), ScriptedSource([10], live=False, pace_s=0.04))
        start = time.monotonic()
        for _ in stream:
            time.sleep(0.04)
        assert time.monotonic() - start < 10 * 0.12 * 0.8


class TestLive:
    def test_late_frames_are_dropped_and_the_count_balances(self):
        stream = Stream(FakeRuntime(latency_s=0.02), ScriptedSource([100], pace_s=0.002))
        seen = []
        with pytest.raises(SourceError, match="lost"):
            for frame, found in stream:
                seen.append(frame.index)
                assert len(found) == 1
                assert stream.counts.in_flight <= 2
                assert_balanced(stream)
        assert seen == sorted(set(seen))
        assert len(seen) < 50
        (status,) = stream.status()
        assert (status.received, status.in_flight, status.dropped["damaged"]) == (100, 0, 0)
        assert_balanced(stream)

    def test_frames_are_fresh_and_say_when_they_came_and_from_where(self):
        stream = Stream(FakeRuntime(), ScriptedSource([10**6], pace_s=0.002))
        for frame, _ in itertools.islice(stream, 20):
            age = time.monotonic() - frame.arrived
            assert 0 <= age < 0.5
            assert frame.source == "scripted"

    def test_a_caller_that_stops_early_frees_the_source(self):
        source = ScriptedSource([10**6], pace_s=0.001)
        stream = Stream(FakeRuntime(), source)
        frames = iter(stream)
        list(itertools.islice(frames, 3))
        frames.close()
        assert source.closed == 1
        assert stream.counts.in_flight == 0
        assert_balanced(stream)

    def test_source_that_never_opened_is_an_error_at_once(self):
        stream = Stream(FakeRuntime(), ScriptedSource([0], reconnects=True))
        with pytest.raises(SourceError, match="lost"):
            next(iter(stream))
        assert [(s.state, s.error) for s in stream.status()] == [("failed", "scripted: lost")]

    def test_wait_option_waits_for_a_missing_source(self):
        stream = Stream(FakeRuntime(), ScriptedSource([0, 0, 5], reconnects=True), is_patient=True)
        with_frames = iter(stream)
        next(with_frames)
        with_frames.close()
        assert stream.counts.reconnects == 0

    def test_lost_stream_is_opened_again_and_numbers_and_times_go_on(self):
        source = ScriptedSource([3, 0, 0, 3], reconnects=True, pace_s=0.01)
        stream, frames = Stream(FakeRuntime(), source), []
        for frame, _ in stream:
            frames.append(frame)
            if stream.counts.received >= 6:
                break
            assert source.opened < 100
        assert stream.counts.reconnects == 1
        assert [f.index for f in frames] == sorted({f.index for f in frames})
        assert [f.time_s for f in frames] == sorted(f.time_s for f in frames)
        assert frames[-1].index >= 3

    def test_refused_password_is_not_tried_again_soon(self, caplog):
        source = ScriptedSource([1, 0], reconnects=True, code="unauthorised")
        stream = Stream(FakeRuntime(), source)
        frames = iter(stream)
        next(frames)
        time.sleep(0.1)
        assert source.opened == 1
        assert stream.status()[0].state == "lost"
        frames.close()

    def test_failure_of_the_reading_thread_reaches_the_caller(self):
        class Broken(ScriptedSource):
            def __iter__(self):
                yield Frame(IMAGE, 0, 0.0, self.name)
                raise RuntimeError("driver gone mad")

        with pytest.raises(RuntimeError, match="gone mad"):
            list(Stream(FakeRuntime(), Broken([])))

    def test_source_that_cannot_reconnect_is_opened_once(self):
        source = ScriptedSource([2, 2], pace_s=0.01)
        with pytest.raises(SourceError):
            list(Stream(FakeRuntime(), source))
        assert source.opened == source.closed == 1


class TestSeveral:
    def test_sources_take_turns(self):
        sources = {name: ScriptedSource([10**6], pace_s=0.001, name=name) for name in "ab"}
        frames = [frame.source for frame, _ in itertools.islice(Stream(FakeRuntime(latency_s=0.005), sources), 40)]
        assert abs(frames.count("a") - frames.count("b")) <= 4

    def test_one_that_fails_does_not_end_the_others(self):
        sources = {"bad": ScriptedSource([0]), "good": ScriptedSource([30], live=False)}
        stream, seen = Stream(FakeRuntime(), sources), []
        with pytest.raises(SourceError, match="lost"):  # at the end
            for frame, _ in stream:
                seen.append(frame.source)
        assert seen == ["good"] * 30
        assert [s.state for s in stream.status()] == ["failed", "ended"]

    def test_same_names_are_numbered(self):
        stream = Stream(FakeRuntime(), [ScriptedSource([1], live=False), ScriptedSource([1], live=False)])
        assert {frame.source for frame, _ in stream} == {"scripted", "scripted (2)"}

    def test_none_is_refused(self):
        with pytest.raises(UsageError, match="at least one source"):
            Stream(FakeRuntime(), [])


class TestPauseAndStop:
    def test_paused_source_is_not_inferred_and_its_frames_are_counted(self):
        stream = Stream(FakeRuntime(), ScriptedSource([10**6], pace_s=0.002))
        frames = iter(stream)
        next(frames)
        stream.pause("scripted")
        time.sleep(0.3)
        (status,) = stream.status()
        assert status.state == "paused" and status.dropped["paused"] > 2
        assert_balanced(stream)
        stream.pause("scripted", False)
        assert next(frames)[0].source == "scripted"
        frames.close()

    def test_unknown_name_is_a_usage_error(self):
        with pytest.raises(UsageError, match="no source is called 'x'; the sources are scripted"):
            Stream(FakeRuntime(), ScriptedSource([1])).pause("x")

    @pytest.mark.parametrize("openings", [[10**6], [1, 0]], ids=["reading", "waiting to reconnect"])
    def test_stop_from_another_thread_ends_the_iteration(self, openings, monkeypatch):
        monkeypatch.setattr(backoff, "SHORTEST_S", 60.0)
        stream = Stream(FakeRuntime(), ScriptedSource(openings, pace_s=0.001, reconnects=True))
        threading.Timer(0.1, stream.stop).start()
        start = time.monotonic()
        for _ in stream:
            pass
        assert time.monotonic() - start < 2
        assert_balanced(stream)


class TestInference:
    def test_a_failure_now_and_then_costs_a_frame(self, caplog):
        calls = itertools.count()

        def respond(x):
            if next(calls) % 3 == 1:
                raise RuntimeError("out of memory")
            return empty()

        stream = Stream(FakeRuntime(respond=respond), ScriptedSource([9], live=False))
        assert len(list(stream)) == 6
        assert stream.status()[0].dropped["failed"] == 3
        assert "out of memory" in caplog.text
        assert_balanced(stream)

    @pytest.mark.parametrize("fault", ["raises", "nan"])
    def test_a_model_that_fails_every_time_ends_the_stream(self, fault):
        def respond(x):
            if fault == "raises":
                raise RuntimeError("broken")
            return empty()._replace(
                boxes=np.full((1, 4), np.nan, np.float32), scores=np.ones(1, np.float32), labels=np.zeros(1, int),
                masks=np.zeros((1, 14, 14), np.float32),
            )  # fmt: skip

        stream = Stream(FakeRuntime(respond=respond), ScriptedSource([100], live=False))
        with pytest.raises(InferenceError, match=f"failed on {loop.FAILURES + 1} consecutive frames"):
            list(stream)
        assert_balanced(stream)

    def test_a_model_that_hangs_is_reported(self):
        released = threading.Event()

        def respond(x):
            released.wait(5)
            return empty()

        stream = Stream(FakeRuntime(respond=respond), ScriptedSource([5], live=False), hang_s=0.2)
        with pytest.raises(InferenceError, match="no result from the model within 0.2 s"):
            try:
                list(stream)
            finally:
                released.set()
        assert_balanced(stream)


class TestParallel:
    def test_several_models_are_quicker_and_keep_the_order(self):
        stream = Stream([FakeRuntime(latency_s=0.06) for _ in range(2)], ScriptedSource([16], live=False))
        start = time.monotonic()
        assert [frame.index for frame, _ in stream] == list(range(16))
        assert time.monotonic() - start < 0.85 * 16 * 0.06
        assert stream.counts == Counts(received=16, processed=16)

    def test_order_holds_when_the_caller_is_the_slowest(self):
        stream, seen = Stream([FakeRuntime() for _ in range(4)], ScriptedSource([60], live=False)), []
        for frame, _ in stream:
            seen.append(frame.index)
            time.sleep(0.002)
        assert seen == list(range(60))

    def test_live_frames_keep_their_order_and_the_count_balances(self):
        models = [FakeRuntime(latency_s=0.001) for _ in range(3)]
        stream, seen = Stream(models, ScriptedSource([10**6], pace_s=0.002)), []
        for frame, _ in itertools.islice(stream, 50):
            seen.append(frame.index)
            assert_balanced(stream)
        assert seen == sorted(set(seen))
        assert_balanced(stream)


def empty():
    return RawOutputs(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        np.zeros((0, 14, 14), np.float32),
    )

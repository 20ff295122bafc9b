from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtimes import UsageError
from runtimes.errors import UnavailableError
from runtimes.sinks import Background, GuardedSink, Reserve, Sink, Split, find_segments, open_sink, open_sinks
from runtimes.sources import Frame, SyntheticSource, open_source

NOTHING = Reserve(share=0.0)


def frame(index: int, *, size_hw=(48, 64), source="a") -> Frame:
    image = np.full((*size_hw, 3), 10 * index % 256, np.uint8)
    return Frame(image, index, index / 10, source, source=source)


class FailingSink(Sink):
    """Takes this number of pictures, then its disk is full."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.written = self.closed = 0

    def write(self, image, frame):
        if self.written == self.room:
            raise OSError(28, "No space left on device")
        self.written += 1

    def close(self):
        self.closed += 1


class TestGuardedSink:
    def test_full_disk_ends_the_recording_with_one_message(self, tmp_path, caplog):
        inner = FailingSink(3)
        with GuardedSink(inner, tmp_path / "out.mp4", NOTHING) as sink:
            for index in range(10):
                sink.write(frame(index).image, frame(index))
            assert sink.is_stopped
        assert (inner.written, inner.closed) == (3, 1)
        assert caplog.text.count("recording stopped, detection continues") == 1
        assert "No space left" in caplog.text

    def test_keeps_room_on_the_disk(self, tmp_path, monkeypatch, caplog):
        inner = FailingSink(100)
        with GuardedSink(inner, tmp_path / "out.mp4", Reserve()) as sink:
            sink.write(frame(0).image, frame(0))
            usage = type("Usage", (), {"total": 1000 * 10**6, "free": 99 * 10**6})
            monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
            sink.write(frame(1).image, frame(1))
        assert inner.written == 1
        assert "99 MB are free, and 100 MB must stay free" in caplog.text

    def test_disk_without_room_is_refused_at_the_start(self, tmp_path):
        with pytest.raises(UnavailableError, match="nearly full.*--keep-free"):
            GuardedSink(FailingSink(1), tmp_path / "out.mp4", Reserve(share=1.0, most_bytes=1 << 60))


class TestVideo:
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
    def test_every_kind_can_be_played_with_its_times(self, tmp_path, suffix):
        pytest.importorskip("av")
        path = tmp_path / f"out{suffix}"
        with open_sink(path, SyntheticSource("s")) as sink:
            for index in range(12):
                sink.write(frame(index).image, frame(index))
        assert len(list(open_source(path))) == 12

    def test_picture_of_another_shape_keeps_its_shape(self, tmp_path):
        with open_sink(tmp_path / "out.mp4", SyntheticSource("synthetic")) as sink:
            sink.write(np.full((48, 64, 3), 200, np.uint8), frame(0))
            sink.write(np.full((64, 32, 3), 200, np.uint8), frame(1))
        upright = list(open_source(tmp_path / "out.mp4"))[1].image
        bright = np.flatnonzero(upright[24, :, 0] > 100)
        assert (bright[0], bright[-1]) == pytest.approx((20, 43), abs=1)  # 24 of 64 columns, as 32 is to 64

    def test_camera_that_comes_back_with_another_size_goes_on(self, tmp_path):
        with open_sink(tmp_path / "out.mp4", SyntheticSource("s")) as sink:
            for index, size_hw in enumerate(((48, 64), (96, 128), (47, 63))):
                sink.write(frame(index, size_hw=size_hw).image, frame(index))
        assert [f.image.shape for f in open_source(tmp_path / "out.mp4")] == [(48, 64, 3)] * 3

    def test_a_copy_made_while_recording_can_be_played(self, tmp_path):
        """The file as it is after a power failure."""
        pytest.importorskip("av")
        with open_sink(tmp_path / "out.mp4", SyntheticSource("s")) as sink:
            for index in range(40):
                sink.write(frame(index).image, frame(index))
            (tmp_path / "cut.mp4").write_bytes((tmp_path / "out.mp4").read_bytes())
        assert len(list(open_source(tmp_path / "cut.mp4"))) >= 25  # 10 frames make a second

    def test_place_that_cannot_be_written_is_said_at_once(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(UnavailableError, match="cannot be written"):
            open_sink(tmp_path / "file" / "out.mp4", SyntheticSource("s"))

    def test_several_sources_have_files_of_their_own(self, tmp_path):
        sources = {"door": SyntheticSource("s"), "rtsp://u:***@h/yard": SyntheticSource("s")}
        for name, sink in open_sinks(tmp_path / "out.mp4", sources, NOTHING).items():
            sink.write(frame(0).image, frame(0, source=name))
            sink.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out-door.mp4", "out-u-h-yard.mp4"]


class TestBackground:
    def test_does_everything_in_order(self):
        done: list[int] = []
        worker = Background(done.append, name="test")
        for number in range(50):
            worker.put(number, may_skip=False)
        worker.close()
        assert done == list(range(50)) and worker.skipped == 0

    def test_live_pictures_are_skipped_rather_than_waited_for(self):
        release, done = threading.Event(), []

        def act(number):
            release.wait(5)
            done.append(number)

        worker = Background(act, name="test")
        start = time.monotonic()
        for number in range(100):
            worker.put(number, may_skip=True)
        assert time.monotonic() - start < 1
        release.set()
        worker.close()
        assert len(done) + worker.skipped == 100 and len(done) <= 10

    def test_hanging_output_is_not_waited_for_after_a_signal(self):
        release = threading.Event()
        worker = Background(lambda number: release.wait(10), name="test")
        for number in range(20):
            worker.put(number, may_skip=True)
        start = time.monotonic()
        assert not worker.close(0.3)
        assert time.monotonic() - start < 1
        release.set()
        assert worker.close()

    def test_failure_reaches_the_caller(self):
        def act(number):
            raise UsageError("the window is gone")

        worker = Background(act, name="test")
        with pytest.raises(UsageError, match="window"):
            for number in range(100):
                worker.put(number, may_skip=False)
        worker.close()


def test_images_keep_their_names(tmp_path):
    folder: Path = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((8, 8, 3), np.uint8))
    source = open_source(folder)
    with open_sink(tmp_path / "out", source) as sink:
        for one in source:
            sink.write(one.image, one)
    assert (tmp_path / "out" / "a.png").is_file()


class TestSegments:
    def record(self, path, frames, *, split, reserve=NOTHING):
        (sink,) = open_sinks(path, {"a": SyntheticSource("s")}, reserve, split).values()
        with sink:
            for index in range(frames):
                sink.write(frame(index).image, frame(index))

    def test_each_file_holds_its_minutes(self, tmp_path):
        self.record(tmp_path / "out.mp4", 25, split=Split(every_s=1.0))
        files = find_segments(tmp_path / "out.mp4")
        assert [len(list(open_source(file))) for file in files] == [10, 10, 5]
        assert sorted(tmp_path.iterdir()) == sorted(files)

    def test_oldest_files_go_when_all_are_too_large(self, tmp_path):
        self.record(tmp_path / "out.mp4", 20, split=Split(every_s=1.0))
        first, second = find_segments(tmp_path / "out.mp4")
        size = first.stat().st_size
        self.record(tmp_path / "out.mp4", 20, split=Split(every_s=1.0, most_bytes=int(2.5 * size)))
        left = find_segments(tmp_path / "out.mp4")
        assert first not in left and second in left and len(left) == 3

    def test_other_files_stay(self, tmp_path):
        others = [
            tmp_path / name for name in ("out.mp4", "out-1.mp4", "out-20260101-000000.mkv", "x-20260101-000000.mp4")
        ]
        for other in others:
            other.write_bytes(b"x" * 100_000)
        self.record(tmp_path / "out.mp4", 30, split=Split(every_s=1.0, most_bytes=1))
        assert len(find_segments(tmp_path / "out.mp4")) == 1
        assert all(other.exists() for other in others)

    def test_full_disk_costs_the_oldest_files(self, tmp_path, monkeypatch):
        self.record(tmp_path / "out.mp4", 30, split=Split(every_s=1.0))
        old = find_segments(tmp_path / "out.mp4")

        def measure(path):
            return type("Usage", (), {"total": 1000, "free": 0 if old[1].exists() else 500})

        monkeypatch.setattr("shutil.disk_usage", measure)
        self.record(tmp_path / "out.mp4", 10, split=Split(every_s=1.0), reserve=Reserve())
        left = find_segments(tmp_path / "out.mp4")
        assert len(left) == 2 and left[0] == old[2]
        assert len(list(open_source(left[1]))) == 10

    @pytest.mark.parametrize("wrong", [{"every_s": 0}, {"every_s": 60, "most_bytes": 0}])
    def test_nonsense_is_refused(self, wrong):
        with pytest.raises(UsageError, match="above 0"):
            Split(**wrong)

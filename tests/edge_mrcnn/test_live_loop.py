"""The loop and its outputs: the interface of an output, one drawing per frame, and errors of an output."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from live_servers import wait_for
from live_site import CARD, Moving, detect, detect_three, make_frame

import edge_mrcnn
from edge_mrcnn.cli import run
from edge_mrcnn.live import result as result_module
from edge_mrcnn.live.loop import run_loop
from edge_mrcnn.live.option_spec import option, options_of
from edge_mrcnn.live.outputs.base import Output
from edge_mrcnn.live.outputs.table import OUTPUTS
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.session import Session
from edge_mrcnn.live.settings import all_settings, make_settings
from runtimes import FakeRuntime, UsageError
from runtimes.stream import Stream

ROOT = Path(__file__).parents[2]


class Panic(BaseException):
    """What a library in another language raises."""


class Toy(Output):
    """An output as one adds it: appends the number of objects of each frame to a file."""

    @dataclass(frozen=True)
    class Settings:
        toy: Path | None = option(None, "Write the numbers of objects.", kind="path")
        toy_times: int = option(1, "How often.", kind="number", low=1)

    settings_type = Settings

    def __init__(self, settings):
        self._file = settings.toy.open("w")
        self._times = int(settings.toy_times)

    @classmethod
    def open(cls, settings, context):
        return cls(settings) if settings.toy else None

    def put(self, result):
        self._file.write(f"{len(result.found)}\n" * self._times)

    def close(self):
        self._file.close()


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(OUTPUTS, "toy", Toy)


def make_video(path: Path, frames: int = 5) -> Path:
    """A bright video: the toy model finds all of its six objects in each frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (96, 64))
    for _ in range(frames):
        writer.write(np.full((64, 96, 3), 200, np.uint8))
    writer.release()
    return path


class TestOneTable:
    def test_an_output_of_one_class_and_one_line_works_in_run(self, toy, model_files, tmp_path):
        arguments = ["--model", model_files[".onnx"], "--source", make_video(tmp_path / "in.avi"), "--conf", 0]
        arguments += ["--toy", tmp_path / "toy.txt", "--toy-times", 2]
        done = CliRunner().invoke(run.build_command(), [str(a) for a in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert (tmp_path / "toy.txt").read_text().split() == ["6"] * 10

    def test_and_in_stream(self, toy, tmp_path):
        video = make_video(tmp_path / "in.avi")
        frames = list(edge_mrcnn.stream(FakeRuntime(CARD, detect_three), video, toy=tmp_path / "toy.txt"))
        assert [len(found) for _, found in frames] == [2] * 5
        assert (tmp_path / "toy.txt").read_text().split() == ["2"] * 5

    def test_no_two_outputs_have_an_option_of_one_name(self):
        names = [name for settings_type in all_settings() for name, _, _ in options_of(settings_type)]
        assert len(set(names)) == len(names)

    def test_unknown_output_name_is_reported(self):
        with pytest.raises(UsageError, match="tow: no such option; the options are .*coco"):
            make_settings(tow=1)

    def test_the_loop_and_its_outputs_know_no_command_line(self):
        code = (
            "import sys; sys.modules['click'] = None\n"
            "import edge_mrcnn.streaming, edge_mrcnn.live.outputs.table, edge_mrcnn.live.signals"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class TestDrawnOnce:
    @pytest.fixture
    def drawn(self, monkeypatch):
        """Each drawing, as the size of its picture."""
        sizes = []
        draw = result_module.draw_detections

        def count(image, found, **style):
            sizes.append(image.shape[:2])
            return draw(image, found, **style)

        monkeypatch.setattr(result_module, "draw_detections", count)
        return sizes

    def test_recording_window_and_viewers_share_one_drawing(self, drawn):
        result = LiveResult(make_frame(), detect((50, 50)), is_whole_wanted=True)
        threads = [threading.Thread(target=result.drawn) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for side, enlarged in ((1280, 1.0), (640, 2.0)):
            assert (result.drawn_for_screen(side, enlarged) == result.drawn()).all()
        assert drawn == [(180, 320)]

    def test_a_small_picture_whose_text_could_not_be_read_has_its_own(self, drawn):
        frame = make_frame()
        wide = type(frame)(np.zeros((1080, 1920, 3), np.uint8), 0, 0.0, "door", "door")
        result = LiveResult(wide, detect((50, 50)), is_whole_wanted=True)
        assert result.drawn_for_screen(1280).shape == (720, 1280, 3) and drawn == [(1080, 1920)]
        result.drawn_for_screen(640, 2.0)
        assert drawn == [(1080, 1920), (360, 640)]

    def test_nothing_is_drawn_large_for_a_page_alone(self, drawn):
        result = LiveResult(make_frame(), detect((50, 50)))
        result.drawn_for_screen(160)
        assert drawn == [(90, 160)]

    def test_the_frame_is_unchanged_if_it_is_used_elsewhere(self):
        frame = make_frame()
        before = frame.image.copy()
        assert (LiveResult(frame, detect((50, 50))).drawn() != before).any() and (frame.image == before).all()
        LiveResult(frame, detect((50, 50)), is_frame_kept=False).drawn()
        assert (frame.image != before).any()

    def test_the_frames_of_stream_are_not_drawn_on(self, tmp_path):
        video = make_video(tmp_path / "in.avi")
        frames = [f for f, _ in edge_mrcnn.stream(FakeRuntime(CARD, detect_three), video, save=tmp_path / "out.mp4")]
        assert len(frames) == 5 and all(frame.image.std() < 3 for frame in frames)
        assert (tmp_path / "out.mp4").stat().st_size


class Failing(Output):
    """Raises the given error at the given place."""

    def __init__(self, where, error):
        self.where, self.error_to_raise = where, error
        self.name = "failing"
        if where == "thread":
            self.start_thread(lambda: self._at("thread"), "failing")

    def _at(self, where):
        if where == self.where:
            raise self.error_to_raise

    def put(self, result):
        self._at("put")

    def tick(self):
        self._at("tick")

    def greetings(self):
        self._at("greetings")
        return ()

    def tallies(self):
        self._at("tallies")
        return ()

    def close(self):
        self._at("close")


class TestFailures:
    @pytest.fixture(params=[ValueError, KeyError, Panic, SystemExit, StopIteration], ids=lambda kind: kind.__name__)
    def error(self, request):
        return request.param("s0mething broke")

    def go(self, output, monkeypatch, frames=6):
        """Frames of a loop with this output, and its session."""
        monkeypatch.setattr("edge_mrcnn.live.session.TICK_S", 0.02)
        stream = Stream(FakeRuntime(CARD, detect_three), {"door": Moving("door")})
        monkeypatch.setitem(OUTPUTS, "failing", output)
        with Session(make_settings(), CARD, stream) as session:
            session.outputs.greetings()
            session.outputs.tallies()
            time.sleep(0.1)
            count = sum(1 for _ in run_loop(iter(stream), session, limit=frames))
            wait_for(lambda: session._ticker.is_alive())
        return count, session

    @pytest.mark.parametrize("where", ["put", "tick", "close", "greetings", "tallies", "thread"])
    def test_any_error_of_an_output_is_one_line_and_the_loop_continues(self, where, error, monkeypatch, caplog):
        class Own(Failing):
            @classmethod
            def open(cls, settings, context):
                return cls(where, error)

        count, session = self.go(Own, monkeypatch)
        assert count == 6
        assert list(session.outputs.failures) == ["failing"]
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1 and "failing stopped, everything else continues: " in lines[0] and "broke" in lines[0]

    def test_also_when_it_cannot_be_opened(self, error, monkeypatch, caplog):
        class Own(Output):
            @classmethod
            def open(cls, settings, context):
                raise error

        count, session = self.go(Own, monkeypatch)
        assert count == 6 and list(session.outputs.failures) == ["failing"] and len(caplog.records) == 1

    def test_a_wrong_option_of_it_is_an_error_of_the_user(self, monkeypatch):
        class Own(Output):
            @classmethod
            def open(cls, settings, context):
                raise UsageError("--failing: expected better")

        with pytest.raises(UsageError, match="expected better"):
            self.go(Own, monkeypatch)

    def test_run_says_that_it_is_not_complete_and_fails(self, model_files, tmp_path, monkeypatch):
        class Own(Failing):
            @classmethod
            def open(cls, settings, context):
                return cls("put", KeyError("gone"))

        monkeypatch.setitem(OUTPUTS, "failing", Own)
        arguments = ["--model", model_files[".onnx"], "--source", make_video(tmp_path / "in.avi")]
        done = CliRunner().invoke(run.build_command(), [str(a) for a in arguments], catch_exceptions=False)
        assert done.exit_code == 1 and "5 frames in" in done.output
        assert "error: failing is incomplete: 'gone'" in done.output

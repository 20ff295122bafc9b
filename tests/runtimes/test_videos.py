"""Video files of phones and recorders, and damaged ones."""

from __future__ import annotations

import functools
import http.server
import struct
import threading
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtimes import FakeRuntime, SourceError, UsageError
from runtimes.sources import open_source
from runtimes.stream import Stream

av = pytest.importorskip("av")


def write_video(path, times_s, *, ticks=1000):
    """A Motion JPEG video with a plain picture at each time, each a little brighter than the one before.

    Its clock has so many ticks in a second.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.codec_context.time_base = Fraction(1, ticks)
        for index, time_s in enumerate(times_s):
            image = np.full((48, 64, 3), 4 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(ticks * time_s), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_times_are_those_of_the_file_where_frames_come_irregularly(tmp_path):
    times = [0, 0.04, 0.5, 2.67, 2.7, 4.0]
    frames = list(open_source(write_video(tmp_path / "phone.mkv", times)))
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=0.002)


def test_damaged_stretch_is_left_out_and_what_follows_is_read(tmp_path, caplog):
    path = write_video(tmp_path / "card.avi", [n / 10 for n in range(30)], ticks=10)
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data) - 2) if data[at : at + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 30
    for start, following in zip(starts[10:13], starts[11:14], strict=True):
        size = following - 8 - start  # up to the head of the next chunk
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    frames = list(open_source(path))
    assert len(frames) == 27
    assert "3 frames are damaged and skipped" in caplog.text
    assert int(frames[-1].image[0, 0, 0]) == pytest.approx(4 * 29, abs=3)


def test_video_that_breaks_off_gives_what_there_is_and_then_an_error(tmp_path):
    path = write_video(tmp_path / "clip.avi", [n / 10 for n in range(60)], ticks=10)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = []
    with pytest.raises(SourceError, match=r"ends early, after 2\d frames, 2\.\d of 6\.0 s") as caught:
        frames.extend(open_source(path))
    assert caught.value.code == "damaged"


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_picture_is_turned_as_the_phone_was_held(tmp_path, degrees, corner):
    """The red corner is at the top left of what is stored; `degrees` is clockwise, as players turn it."""
    path = tmp_path / "upright.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        image = np.full((32, 64, 3), 90, np.uint8)
        image[:16, :16] = (250, 20, 20)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    data = bytearray(path.read_bytes())
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(plain, data.index(b"tkhd"))
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data[at : at + 36] = struct.pack(">9i", cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (frame,) = open_source(path)
    assert frame.image.shape == ((32, 64, 3) if degrees == 180 else (64, 32, 3))
    assert frame.image[corner][0] > 180 > frame.image[corner][1]


def test_size_that_changes_on_the_way_is_kept(tmp_path):
    pictures = [np.full((height, width, 3), 90, np.uint8) for height, width in ((48, 64), (64, 48), (64, 96))]
    path = tmp_path / "joined.mjpg"
    path.write_bytes(b"".join(cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures))
    assert [frame.image.shape[:2] for frame in open_source(path)] == [(48, 64), (64, 48), (64, 96)]


def test_heic_picture_is_refused_by_its_type(tmp_path):
    path = tmp_path / "photo.heic"
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(100))
    with pytest.raises(SourceError, match="HEIC images"):
        open_source(path)


def test_frames_that_the_container_dropped_are_counted(tmp_path, caplog):
    times = [n / 10 for n in range(40) if n not in (12, 13, 30)]
    assert len(list(open_source(write_video(tmp_path / "gap.mkv", times)))) == 37
    assert "3 frames are damaged and skipped" in caplog.text


def test_irregular_video_has_no_gaps(tmp_path, caplog):
    times = np.cumsum([0.04, 0.1, 0.02, 0.5, 0.07, 0.3, 0.04, 0.9])
    list(open_source(write_video(tmp_path / "phone.mkv", times)))
    assert not caplog.text


def test_pictures_that_nobody_looks_at_are_not_kept(tmp_path):
    path = write_video(tmp_path / "clip.avi", [n / 10 for n in range(8)], ticks=10)
    runtime = FakeRuntime(FakeRuntime().card.updated(input_size_hw=(16, 24)))
    for is_wanted in (True, False):
        stream = Stream(runtime, open_source(path))
        stream.wants_picture = lambda name, is_wanted=is_wanted: is_wanted
        results = list(stream)
        assert [len(found) for _, found in results] == [1] * 8
        assert all(frame.pixels.is_kept is is_wanted and frame.size_hw == (48, 64) for frame, _ in results)


class TestSeveral:
    @pytest.fixture
    def clips(self, tmp_path):
        folder = tmp_path / "clips"
        folder.mkdir()
        for name, count in (("a.avi", 3), ("b.avi", 4)):
            write_video(folder / name, [n / 10 for n in range(count)], ticks=10)
        return folder

    @pytest.mark.parametrize("pattern", ["{}", "{}/*.avi"])
    def test_videos_of_a_folder_or_pattern_are_read_one_after_another(self, clips, pattern):
        source = open_source(pattern.format(clips))
        frames = list(source)
        assert [frame.index for frame in frames] == list(range(7)) and source.frame_count == 7
        assert [frame.time_s for frame in frames] == pytest.approx([n / 10 for n in range(7)])
        assert [Path(frame.name).name for frame in frames] == ["a.avi"] * 3 + ["b.avi"] * 4
        assert source.fps == 10 and not source.is_live
        assert {clips, clips / "a.avi", clips / "b.avi"} <= set(source.reads())

    def test_damaged_video_is_an_error_after_the_others(self, clips, caplog):
        (clips / "aa.avi").write_bytes(b"no video")
        frames = iter(open_source(clips))
        assert len([next(frames) for _ in range(7)]) == 7
        with pytest.raises(SourceError, match="1 of 3 videos could not be read completely; the first error: .*aa.avi"):
            next(frames)
        assert "aa.avi" in caplog.text

    def test_images_beside_videos_are_read_and_the_videos_named(self, clips, caplog):
        cv2.imwrite(str(clips / "still.png"), np.zeros((48, 64, 3), np.uint8))
        assert [Path(frame.name).name for frame in open_source(clips)] == ["still.png"]
        assert "reads 1 image and skips 2 videos; for videos give a pattern such as '*.avi'" in caplog.text


class TestWeb:
    @pytest.fixture
    def web(self, tmp_path):
        """A folder and its address on a web server; what begins with `secret` wants a password."""

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self):
                if self.path.startswith("/secret"):
                    self.send_error(401)
                else:
                    super().do_GET()

            def log_message(self, *_):
                pass

        handler = functools.partial(Handler, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield tmp_path, f"http://127.0.0.1:{server.server_port}"
            server.shutdown()

    def test_recording_with_one_key_frame_is_read_behind_any_name(self, web):
        folder, url = web
        with av.open(str(folder / "download"), "w", format="matroska") as container:
            stream = container.add_stream("libx264", rate=10, options={"tune": "zerolatency", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.gop_size = 250
            for number in range(12):
                picture = np.full((48, 64, 3), 60 + number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        assert list(open_source(f"{url}/download"))

    @pytest.mark.parametrize(("name", "code"), [("none.mp4", "not-found"), ("secret.mp4", "unauthorised")])
    def test_message_of_the_server_is_reported(self, web, name, code):
        with pytest.raises(SourceError) as caught:
            open_source(f"{web[1]}/{name}")
        assert caught.value.code == code

    def test_file_takes_no_options(self, web):
        with pytest.raises(UsageError, match="a video file takes no options"):
            open_source(f"{web[1]}/clip.mp4#fps=5")

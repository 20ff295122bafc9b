from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from stream_servers import MjpegServer, SilentServer, age_s, children, free_port

from runtimes import SourceError, UsageError
from runtimes.sources import LiveSource, SyntheticSource, VideoSource, connection, open_source, open_sources
from runtimes.sources.address import parse_url, split_label

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 10, 3), number * 50, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for number in range(5):
        writer.write(np.full((24, 32, 3), (number * 50, 0, 0), np.uint8))
    writer.release()
    return path


def test_folder_gives_its_images_in_order(folder):
    source = open_source(folder)
    frames = list(source)
    assert [Path(f.name).name for f in frames] == ["0.png", "1.png", "2.png"]
    assert [f.image[0, 0, 0] for f in frames] == [0, 50, 100]
    assert source.frame_count == 3 and not source.is_live


def test_glob_and_single_image(folder):
    assert len(list(open_source(f"{folder}/[12].png"))) == 2
    assert [f.index for f in open_source(folder / "1.png")] == [0]


def test_damaged_image_among_others_is_skipped_with_a_warning(folder, caplog):
    (folder / "1.png").write_bytes(b"broken")
    assert len(list(open_source(folder))) == 2
    assert "1.png" in caplog.text


def test_video_gives_every_frame_with_its_time_in_rgb(video):
    source = open_source(video)
    frames = list(source)
    assert (len(frames), source.fps) == (5, 10)
    assert [f.time_s for f in frames] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert frames[4].image[0, 0].argmax() == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nowhere.mp4", "no such file"),
        ("99", "camera 99: no such camera"),
        ("/dev/video99", "camera /dev/video99: no such camera"),
        ("{folder}/*.gif", "no images or videos in this folder"),
        ("{folder}/notes.txt", "cannot be decoded as a video"),
    ],
)
def test_unreadable_source_is_explained(folder, text, words):
    with pytest.raises(SourceError, match=words):
        list(open_source(text.format(folder=folder)))


class TestText:
    @pytest.mark.parametrize(
        ("text", "kind", "name"),
        [
            ("0", LiveSource, "camera 0"),
            ("/dev/video2#size=1280x720,fps=30,format=mjpg", LiveSource, "camera /dev/video2"),
            ("picamera://1#fps=10", LiveSource, "picamera 1"),
            ("rtsp://host/live#transport=udp", LiveSource, "rtsp://host/live"),
            ("synthetic#size=320x240", SyntheticSource, "synthetic"),
        ],
    )
    def test_names_a_source_with_its_options(self, text, kind, name):
        source = open_source(text)
        assert isinstance(source, kind) and source.name == name and source.is_live

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("0#colour=red", "expected size=1280x720, fps=30, format=MJPG"),
            ("0#size=big", "expected width x height"),
            ("0#fps=0", "expected frames per second"),
            ("0#format=JPEG2", "expected a FourCC"),
            ("rtsp://host/live#transport=pigeon", "expected tcp or udp"),
            ("synthetic#seed=-1", "expected a whole number"),
            ("csi://left", "no GStreamer|number of a camera"),
            (" ", "the source is empty"),
        ],
    )
    def test_wrong_option_is_a_usage_error_that_names_the_right_ones(self, text, words):
        with pytest.raises(UsageError, match=words):
            open_source(text)

    @pytest.mark.parametrize("text", ["videotestsrc ! videoconvert", "csi://0"])
    def test_pipeline_without_gstreamer_says_where_to_get_it(self, text, monkeypatch):
        monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   NO\n")
        with pytest.raises(SourceError, match="without GStreamer") as caught:
            open_source(text)
        assert caught.value.code == "no-driver"

    def test_several_have_their_labels_or_numbered_names(self, video):
        texts = ["door=rtsp://u:geheim@h/live", str(video), str(video), "synthetic"]
        assert list(open_sources(texts)) == ["door", str(video), f"{video} (2)", "synthetic"]

    def test_same_label_twice_is_refused(self):
        with pytest.raises(UsageError, match="two sources"):
            open_sources(["a=0", "a=1"])

    @pytest.mark.parametrize(
        ("text", "label", "rest"),
        [
            ("door=rtsp://h/live", "door", "rtsp://h/live"),
            ("front door (2)=0", "front door (2)", "0"),
            ("1=0", "1", "0"),
            ("Tür=0", "Tür", "0"),
            ("玄関=rtsp://h/live", "玄関", "rtsp://h/live"),
            ("0", "", "0"),
            ("0#size=640x480", "", "0#size=640x480"),
            ("rtsp://h/live?a=b", "", "rtsp://h/live?a=b"),
            ("v4l2src device=/dev/video0 ! videoconvert", "", "v4l2src device=/dev/video0 ! videoconvert"),
            ("door=v4l2src device=/dev/video0 ! videoconvert", "door", "v4l2src device=/dev/video0 ! videoconvert"),
            ("synthetic#fps=5", "", "synthetic#fps=5"),
        ],
    )
    def test_label_is_told_from_the_source(self, text, label, rest):
        assert split_label(text) == (label, rest)

    @pytest.mark.parametrize("name", ["1#x.avi", "0=1.avi", "a ! b.avi", "clip#size=1x1.avi"])
    def test_existing_path_is_a_file_even_if_it_looks_like_a_url(self, video, name, monkeypatch):
        video.rename(video.with_name(name))
        monkeypatch.chdir(video.parent)
        (source,) = open_sources([name]).values()
        assert isinstance(source, VideoSource) and len(list(source)) == 5
        assert len(list(open_source(video.with_name(name).as_uri()))) == 5

    def test_folder_named_by_a_number_is_a_folder(self, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        folder.rename(folder.parent / "2024")
        assert len(list(open_source("2024"))) == 3
        assert len(list(open_source(f"shots={folder.parent / '2024'}".partition("=")[2]))) == 3

    def test_link_to_a_device_is_a_camera(self, tmp_path, monkeypatch):
        link = tmp_path / "front-camera"
        link.symlink_to("/dev/null")  # a device, though no camera
        for text in (str(link), f"{link}#size=640x480"):
            assert isinstance(open_source(text), LiveSource)
        assert isinstance(open_source("/dev/v4l/by-id/usb-Camera-video-index0#fps=30"), LiveSource)

    @pytest.mark.parametrize(
        "text", ["http:/u:hush@h/x", "rtsp//u:hush@h/x", "u:hush@10.0.0.2:554/x", "http:/h/?pw=hush", "hush@h:554/x"]
    )
    def test_mistyped_address_is_not_repeated(self, text):
        with pytest.raises(SourceError, match="expected an address scheme://host/path") as caught:
            open_source(text)
        assert caught.value.code == "bad-address" and "hush" not in str(caught.value)

    @pytest.mark.parametrize("name", ["clip.avi", "1#x.avi"])
    def test_file_takes_no_options(self, video, name, monkeypatch):
        video.rename(video.with_name(name))
        monkeypatch.chdir(video.parent)
        with pytest.raises(UsageError, match=f"{name}: a file or folder takes no options"):
            open_source(f"{name}#fps=5")

    @pytest.mark.skipif(sys.platform != "linux", reason="numbers of devices are Linux's")
    def test_device_that_is_no_camera_is_said(self):
        with pytest.raises(SourceError, match="is a link to null, which is not a camera"):
            list(open_source("/dev/null"))

    def test_limits_are_options_of_a_live_source(self):
        source = open_source("rtsp://h/live#open=30,stall=12.5")
        assert (source.open_s, source.stall_s) == (30, 12.5)
        assert open_source("0#stall=7").stall_s == 7
        with pytest.raises(UsageError, match="stall=soon: expected seconds"):
            open_source("0#stall=soon")

    def test_file_with_an_equals_sign_is_a_file(self, video):
        path = video.rename(video.with_name("a=b.avi"))
        assert list(open_sources([str(path)])) == [str(path)]


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "understood", "host", "port"),
        [
            ("rtsp://host/live", "rtsp://host/live", "host", 554),
            ("rtsp://host:8554/a/b?c=d", "rtsp://host:8554/a/b?c=d", "host", 8554),
            ("rtsp://j.doe:p@ss@host/live", "rtsp://j.doe:p%40ss@host/live", "host", 554),
            ("rtsp://user:s/x@cam.lan/live", "rtsp://user:s%2Fx@cam.lan/live", "cam.lan", 554),
            ("rtsp://user:p@s/x@10.0.0.2/live", "rtsp://user:p%40s%2Fx@10.0.0.2/live", "10.0.0.2", 554),
            ("rtsp://user:pass@10.0.0.2/live@2", "rtsp://user:pass@10.0.0.2/live@2", "10.0.0.2", 554),
            ("rtsp://user:a%40b@host:1/live", "rtsp://user:a%40b@host:1/live", "host", 1),
            ("rtsp://user:50%@host/live", "rtsp://user:50%25@host/live", "host", 554),
            ("http://host/snap@2x", "http://host/snap@2x", "host", 80),
            ("rtsp://[::1]:554/live", "rtsp://[::1]:554/live", "::1", 554),
            ("udp://:5000", "udp://:5000", "", None),
        ],
    )
    def test_usual_spellings_of_an_address_are_understood(self, url, understood, host, port):
        address = parse_url(url)
        assert (address.url, address.host, address.port) == (understood, host, port)

    @pytest.mark.parametrize("url", ["rtsp://", "rtsp://host:port/live", "rtsp://host:99999/live", "gopher://host/"])
    def test_invalid_settings_are_reported_at_once(self, url):
        with pytest.raises(SourceError) as caught:
            open_source(url)
        assert caught.value.code == "bad-address"


class TestSynthetic:
    def test_moves_at_its_rate_and_repeats(self):
        start = time.monotonic()
        frames = list(itertools.islice(open_source("synthetic#size=64x48,fps=100"), 11))
        assert 0.1 <= time.monotonic() - start < 1
        assert frames[0].image.shape == (48, 64, 3) and frames[0].image.dtype == np.uint8
        assert (frames[0].image != frames[10].image).any()
        again = next(iter(open_source("synthetic#size=64x48,fps=100")))
        assert (frames[0].image == again.image).all()


def failure(url, **limits):
    """The error that reading a source ends in."""
    source = open_source(url)
    for name, value in limits.items():
        setattr(source, name, value)
    with pytest.raises(SourceError) as caught:
        for _ in source:
            pass
    return caught.value


class TestNetwork:
    def test_newest_frame_comes_and_the_end_is_a_loss(self):
        with MjpegServer(login="us.er:p@ss/word", fps=50) as server:
            frames = iter(open_source(server.url))
            first, second = next(frames), next(frames)
            assert first.image.shape == (240, 320, 3)
            assert age_s(second.image) < 2
            assert second.index > first.index and second.arrived > first.arrived
            assert "word" not in first.name
            server.fault = "close"
            with pytest.raises(SourceError) as caught:
                list(frames)
            assert caught.value.code in ("lost", "stalled")

    def test_each_fault_has_its_code_and_no_password(self):
        with MjpegServer(login="user:secret") as server, SilentServer() as silent:
            at = f"127.0.0.1:{server.port}"
            for url, code in {
                f"http://user:wrong-secret@{at}/video": "unauthorised",
                f"http://user:secret@{at}/absent": "not-found",
                f"rtsp://user:secret@127.0.0.1:{free_port()}/live": "refused",
                f"rtsp://user:secret@127.0.0.1:{silent.port}/live": "silent",
            }.items():
                error = failure(url, open_s=2.5)
                assert error.code == code, error
                assert "secret" not in str(error)

    def test_other_things_than_a_video_are_refused(self, monkeypatch):
        monkeypatch.setattr(connection, "LONGEST_S", 3)  # data comes all the time, so nothing shorter ends the wait
        with MjpegServer() as server:
            server.picture = lambda: time.sleep(0.1) or b"no picture at all " * 100
            assert failure(server.url).code in ("not-a-stream", "silent", "no-video")

    def test_frozen_stream_is_given_up(self):
        with MjpegServer() as server:
            source = open_source(server.url)
            source.stall_s = 0.5
            frames = iter(source)
            next(frames)
            server.fault = "freeze"
            start = time.monotonic()
            with pytest.raises(SourceError) as caught:
                list(frames)
            assert caught.value.code == "stalled"
            assert time.monotonic() - start < 2

    def test_password_is_on_no_command_line_and_no_process_is_left(self):
        with MjpegServer(login="user:sesame") as server:
            frames = iter(open_source(server.url))
            next(frames)
            (child,) = children(os.getpid())
            assert b"sesame" not in Path(f"/proc/{child}/cmdline").read_bytes()
            assert b"sesame" not in Path(f"/proc/{child}/environ").read_bytes()
            frames.close()
            assert children(os.getpid()) == []

    def test_without_pyav_opencv_reads(self, tmp_path, monkeypatch):
        (tmp_path / "av.py").write_text("raise ModuleNotFoundError('av')")
        monkeypatch.syspath_prepend(tmp_path)
        with MjpegServer() as server:
            frame = next(iter(open_source(server.url)))
            assert age_s(frame.image) < 3
            assert failure(server.url.replace("/video", "/absent")).code == "not-found"


@pytest.mark.parametrize(
    ("kind", "body", "code", "words"),
    [
        ("text/html", b"<html>log in</html>" * 50, "not-a-stream", "expected the address of its video"),
        ("application/json", b"{}" * 50, "not-a-stream", "check that this is the address of a video"),
        ("", b"", "unreadable", "internal error"),
    ],
)
def test_other_responses_of_a_web_server_are_distinguished(kind, body, code, words):
    def respond(handler):
        if not kind:
            return handler.send_error(503)
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        handler.wfile.write(body)

    with MjpegServer() as server:
        server.respond = respond
        error = failure(server.url)
    assert error.code == code and words in str(error)


def test_address_of_one_picture_is_asked_again_and_again():
    asked = []

    def respond(handler):
        asked.append(time.monotonic())
        image = np.full((64, 96, 3), len(asked) % 2 * 200, np.uint8)
        handler.send_response(200)
        handler.send_header("Content-Type", "image/jpeg")
        handler.end_headers()
        handler.wfile.write(cv2.imencode(".jpg", image)[1].tobytes())

    with MjpegServer() as server:
        server.respond = respond
        frames = list(itertools.islice(open_source(server.url + "#fps=20"), 4))
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    assert {int(frame.image[0, 0, 0]) // 100 for frame in frames} == {0, 2}
    assert min(np.diff(asked)) > 0.03


class TestRibbonCamera:
    """What Raspberry Pi and Jetson get; neither camera is here."""

    PICAMERA2 = """
import numpy as np
class Picamera2:
    # answers as picamera2 does, whose buffers are wider than the picture; every picture is red
    @staticmethod
    def global_camera_info():
        return [{"Num": 0}, {"Num": 1}]
    def __init__(self, number):
        if number == 1:
            raise RuntimeError("Camera __init__ sequence did not complete.")
    def create_video_configuration(self, *, main, controls, buffer_count):
        assert main["format"] == "BGR888" and controls == {"FrameRate": 10.0}
        return main
    def configure(self, main):
        self.size = main["size"]
    def start(self):
        pass
    def capture_array(self, name):
        width, height = self.size
        picture = np.zeros((height, width + 16, 3), np.uint8)
        picture[:, :width, 0] = 255
        return picture
"""

    @pytest.fixture
    def picamera2(self, tmp_path, monkeypatch):
        (tmp_path / "picamera2.py").write_text(self.PICAMERA2)
        monkeypatch.syspath_prepend(tmp_path)

    @pytest.mark.usefixtures("picamera2")
    def test_picamera2_gives_rgb_of_the_size_that_was_asked_for(self):
        frame = next(iter(open_source("picamera://0#size=64x48,fps=10")))
        assert frame.image.shape == (48, 64, 3) and (frame.image == (255, 0, 0)).all()

    @pytest.mark.usefixtures("picamera2")
    @pytest.mark.parametrize(("number", "code"), [(1, "busy"), (2, "no-device")])
    def test_picamera_that_cannot_be_opened_says_why(self, number, code):
        assert failure(f"picamera://{number}#fps=10").code == code

    def test_without_picamera2_it_says_how_to_get_it(self):
        error = failure("picamera://0")
        assert error.code == "no-driver" and "apt install python3-picamera2" in str(error)

    def test_jetson_is_read_by_its_own_pipeline(self, monkeypatch):
        monkeypatch.setattr(cv2, "getBuildInformation", lambda: "    GStreamer:                   YES (1.20)\n")
        source = open_source("csi://1#size=640x480,fps=15")
        assert source.name == "csi 1"
        assert source._plan["pipeline"] == (
            "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM), width=640, height=480, framerate=15/1 "
            "! nvvidconv ! video/x-raw, format=BGRx "
            "! videoconvert ! video/x-raw, format=BGR ! appsink drop=true max-buffers=1 sync=false"
        )


def test_reader_ends_with_the_process_that_started_it():
    code = (
        "import sys, time; from runtimes.sources import open_source; frames = iter(open_source(sys.argv[1])); "
        "next(frames); print('ready', flush=True); time.sleep(60)"
    )
    with MjpegServer() as server:
        owner = subprocess.Popen([sys.executable, "-c", code, server.url], stdout=subprocess.PIPE, cwd=ROOT)
        assert owner.stdout.readline() == b"ready\n"
        (child,) = children(owner.pid)
        owner.kill()
        owner.wait()
        owner.stdout.close()
        deadline = time.monotonic() + 3
        while is_running(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_running(child)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("system", "text", "words"),
    [
        ("win32", "0", "0: cameras need Linux \\(V4L2\\); on this system files can be read"),
        ("darwin", "0", "on this system files and network streams can be read"),
        ("darwin", "csi://0", "cameras need Linux"),
        ("win32", "rtsp://127.0.0.1/live", "network streams need Linux or macOS"),
    ],
)
def test_live_source_says_which_system_it_needs(system, text, words, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(UsageError, match=words):
        open_source(text)


@pytest.mark.parametrize(("system", "text"), [("darwin", "rtsp://127.0.0.1/live"), ("win32", "synthetic")])
def test_source_that_another_system_can_read_is_opened(system, text, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    assert open_source(text) is not None

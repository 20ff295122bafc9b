from __future__ import annotations

import http.server
import socket
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtimes import SourceError, sources
from runtimes.sources import open_source


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


def test_damaged_image_among_others_is_skipped_aloud(folder, caplog):
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
        ("99", "camera 99: no picture"),
        ("/dev/video99", "camera /dev/video99: no picture"),
        ("{folder}/*.gif", "no images there"),
        ("{folder}/notes.txt", "cannot be decoded as a video"),
    ],
)
def test_what_cannot_be_opened_is_said_in_words(folder, text, words):
    with pytest.raises(SourceError, match=words):
        list(open_source(text.format(folder=folder)))


class TestNetwork:
    @pytest.fixture(params=["with PyAV", "OpenCV alone"], autouse=True)
    def reader(self, request, monkeypatch):
        monkeypatch.setattr(sources, "TIMEOUT_S", 1.0)
        if request.param == "OpenCV alone":
            monkeypatch.setitem(__import__("sys").modules, "av", None)
        else:
            pytest.importorskip("av")
        return request.param

    @pytest.fixture
    def server(self, video):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response({"/refused": 401, "/video": 200}.get(self.path, 404))
                self.end_headers()
                if self.path == "/video":
                    self.wfile.write(video.read_bytes())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://user:secret@127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
        server.server_close()

    def test_stream_is_read_and_its_end_is_a_loss(self, server):
        source, frames = open_source(f"{server}/video"), []
        with pytest.raises(SourceError, match="lost after [45] frames"):
            frames.extend(iter_into(source, frames))
        assert [f.index for f in frames][:4] == list(range(4))
        assert source.is_live and source.can_reconnect
        assert "secret" not in frames[0].name

    def test_refusals_name_the_reason_but_no_password(self, server, reader):
        reasons = {"/refused": "user name and password", "/absent": "no such stream"}
        for path, reason in reasons.items():
            with pytest.raises(SourceError, match=reason if reader == "with PyAV" else "cannot connect") as caught:
                list(open_source(server + path))
            assert "secret" not in str(caught.value)

    def test_closed_port_cannot_connect(self):
        with pytest.raises(SourceError, match="cannot connect"):
            list(open_source("rtsp://user:secret@127.0.0.1:1/live"))

    def test_silent_server_is_given_up(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            with pytest.raises(SourceError, match="no answer|cannot connect"):
                list(open_source(f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live"))


def iter_into(source, frames):
    for frame in source:
        frames.append(frame)
    return []

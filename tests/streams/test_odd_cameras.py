"""Cameras and servers that violate standards. Each test prints the time of its first frame."""

from __future__ import annotations

import functools
import http.server
import itertools
import logging
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from odd_cameras import HEADS, HEIGHT, PARTS, WIDTH, OddMjpeg, OddRtsp
from watched import Watched

from runtimes.sources import VideoSource, open_source

av = pytest.importorskip("av")


def first_frame_s(url: str, count: int = 3) -> tuple[float, list]:
    """Seconds until the first frame, and some frames."""
    start = time.monotonic()
    frames = iter(open_source(url))
    first = next(frames)
    seconds = time.monotonic() - start
    taken = [first, *itertools.islice(frames, count - 1)]
    frames.close()
    return seconds, taken


@pytest.mark.parametrize("oddity", [*PARTS, *HEADS, "redirect", "single pictures"])
def test_motion_jpeg_is_read_however_it_is_wrapped(oddity, pace, figure):
    with OddMjpeg(oddity) as server:
        seconds, frames = first_frame_s(server.url, 6)
    figure(f"first frame after {seconds:.2f} s")
    assert seconds < pace.allow(5)
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert all(60 < frame.image.mean() < 140 for frame in frames)
    if oddity == "sizes change":
        assert {frame.image.shape[:2] for frame in frames} <= {(240, 320), (238, 322)}


@pytest.mark.parametrize(
    ("name", "camera", "limit_s"),
    [
        ("plain", {}, 5),
        ("audio track that never sends", {"silent_track": "audio"}, 5),
        ("metadata track that never sends", {"silent_track": "application"}, 5),
        ("key frames 12 s apart", {"key_every": 300}, 30),
        ("key frames 12 s apart, no parameter sets", {"key_every": 300, "has_parameters": False}, 30),
        ("one frame a second", {"fps": 1, "key_every": 4}, 8),
    ],
)
def test_rtsp_of_real_firmware_gives_pictures(name, camera, limit_s, pace, figure):
    with OddRtsp(**camera) as server:
        seconds, frames = first_frame_s(server.url)
    figure(f"first frame after {seconds:.1f} s")
    assert seconds < pace.allow(limit_s)
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3) and 60 < frames[0].image.mean() < 140


def test_camera_that_rejects_tcp_gets_udp_with_a_message(figure, caplog):
    with caplog.at_level(logging.WARNING), OddRtsp(is_udp_only=True) as server:
        seconds, frames = first_frame_s(server.url)
    figure(f"first frame after {seconds:.1f} s, after {len(server.transports)} attempts")
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert "#transport=udp" in caplog.text


def test_slow_stream_is_not_taken_for_a_stalled_one(figure):
    """A frame every four seconds, twice the usual limit: the limit adapts to the pace."""
    with OddRtsp(fps=0.25, key_every=1) as server, Watched(server.url + "#open=20", stamped=False) as run:
        run.wait_frame(timeout_s=30)
        time.sleep(30)
        (status,) = run.stream.status()
        received, stalls = status.received, status.stalls
    figure(f"{received} frames in 30 s, {stalls} stalls before the pace was known")
    assert received >= 6 and stalls <= 2


def write_video(path, seconds, **options):
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=10, options={"tune": "zerolatency", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = 10
        stream.codec_context.time_base = Fraction(1, 10)
        for number in range(10 * seconds):
            image = np.full((HEIGHT, WIDTH, 3), 60 + number % 100, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def web_folder(tmp_path):
    """A folder and its address on a web server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_video_file_on_a_web_server_is_read_once_and_wholly(web_folder):
    folder, url = web_folder
    write_video(folder / "clip.mp4", 3)
    source = open_source(f"{url}/clip.mp4")
    assert isinstance(source, VideoSource) and not source.is_live
    assert [frame.index for frame in source] == list(range(30))


def test_recording_behind_another_name_ends_when_it_is_over(web_folder, figure):
    folder, url = web_folder
    write_video(folder / "clip.mp4", 3)
    (folder / "clip.mp4").rename(folder / "download")
    start = time.monotonic()
    frames = list(open_source(f"{url}/download"))
    figure(f"3 s of video in {time.monotonic() - start:.1f} s, {len(frames)} of 30 frames given")
    assert 2 < time.monotonic() - start < 12 and len(frames) >= 3  # it plays once, at its own pace


def test_hls_that_grows_is_not_stalled_between_segments(web_folder, pace, figure):
    """Segments of two seconds appear one by one, as a server writes them; the newest four are listed."""
    folder, url = web_folder
    write_video(folder / "all.m3u8", 24, hls_time="2", hls_list_size="0", hls_segment_filename=str(folder / "s%02d.ts"))
    count = len(list(folder.glob("s*.ts")))
    is_over = threading.Event()

    def publish():
        for last in range(4, count + 1):
            lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2", f"#EXT-X-MEDIA-SEQUENCE:{last - 4}"]
            for number in range(last - 4, last):
                lines += ["#EXTINF:2.0,", f"s{number:02d}.ts"]
            (folder / "new.m3u8").write_text("\n".join(lines) + "\n")
            (folder / "new.m3u8").rename(folder / "live.m3u8")
            if is_over.wait(2):
                return

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    time.sleep(0.2)
    with Watched(f"{url}/live.m3u8", stamped=False) as run:
        run.wait_frame(timeout_s=15)
        time.sleep(10)
        (status,) = run.stream.status()
    is_over.set()
    thread.join()
    figure(
        f"{status.received} frames of 10 a second in 10 s, {status.stalls} stalls, {status.reconnects} reconnections"
    )
    assert status.stalls == status.reconnects == 0 and status.received > 60 / pace.factor

"""Real servers on 127.0.0.1 with faults. Each test prints its figure."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack

import numpy as np
import pytest
from stream_servers import MjpegServer, RtspServer, SilentServer, age_s, children, free_port
from watched import Watched, resources

from runtimes import SourceError
from runtimes.sources import open_source

SECONDS = float(os.environ.get("STREAM_SECONDS", 60))
"""Duration of the test of a slow model."""
PERIOD_MS, MODEL_MS = 40, 200
RESTARTS_S = (1.5, 3) * 9 + (1.5, 20)
"""Duration of each absence of a killed server."""


class TestAge:
    @pytest.mark.parametrize("kind", ["rtsp", "rtsp over udp", "mjpeg"])
    def test_slow_model_gets_fresh_frames(self, kind, request, pace, figure):
        """A model of 200 ms behind a source of 25 fps.

        FFmpeg hands a frame of RTSP out when the next one begins, which is a period later.
        """
        if "rtsp" in kind:
            request.getfixturevalue("rtsp")
        seconds = SECONDS if kind == "rtsp" else SECONDS / 3
        with RtspServer() if "rtsp" in kind else MjpegServer() as server:
            url = server.url + "#transport=udp" * (kind == "rtsp over udp")
            with Watched(url, latency_s=MODEL_MS / 1000) as run:
                run.wait_frame(timeout_s=15)
                time.sleep(seconds)
        ages = run.ages()
        p50, p95, p99, most = np.percentile(ages, [50, 95, 99, 100])
        third = len(ages) // 3
        growth = np.median(ages[-third:]) - np.median(ages[:third])
        figure(
            f"age at hand-out, 200 ms of model in it: p50 {p50:.0f} p95 {p95:.0f} p99 {p99:.0f} max {most:.0f} ms, "
            f"growth {growth:+.0f} ms over {seconds:.0f} s, {len(ages)} frames"
        )
        assert p99 <= MODEL_MS + pace.allow(100 + PERIOD_MS)
        assert abs(growth) <= pace.allow(50)


@pytest.mark.usefixtures("rtsp")
class TestLoss:
    def test_killed_server_comes_back(self, pace, figure):
        with RtspServer(fps=10) as server, Watched(server.url) as run:
            run.wait_frame(timeout_s=15)
            before, lost, back = resources(), [], []
            for pause_s in RESTARTS_S:
                server.kill()
                lost.append(run.wait_state("lost", "stalled"))
                time.sleep(pause_s)
                server.start()
                back.append(run.wait_frame())
            time.sleep(0.5)
            after = resources()
            (status,) = run.stream.status()
        growth = {key: after[key] - before[key] for key in after}
        figure(
            f"lost after {max(lost):.2f} s at most; back {np.median(back):.1f} s p50, {max(back):.1f} s max after the "
            f"server; {len(back)} times: memory {growth['rss_mb']:+.1f} MB, descriptors {growth['fds']:+.0f}"
        )
        assert status.reconnects == len(back)
        assert max(lost) <= pace.allow(1) and max(back) <= pace.allow(5)
        assert growth["rss_mb"] <= 10 and growth["fds"] <= 0 and growth["threads"] <= 0

    def test_frozen_server_stalls_alone(self, pace, figure):
        with ExitStack() as stack:
            server, other = stack.enter_context(RtspServer(fps=10)), stack.enter_context(MjpegServer(fps=10))
            with Watched(f"frozen={server.url}", f"other={other.url}") as run:
                run.wait_frame("frozen", timeout_s=15)
                run.wait_frame("other", timeout_s=15)
                time.sleep(4)
                start = time.monotonic()
                usual = run.rate("other", start - 4, start)
                server.freeze()
                stalled = run.wait_state("stalled", name="frozen")
                time.sleep(10 - stalled)
                during = run.rate("other", start, time.monotonic())
                server.thaw()
                back = run.wait_frame("frozen")
                (status, _) = run.stream.status()
        figure(
            f"stalled after {stalled:.2f} s, back {back:.1f} s after the thaw; the other source kept "
            f"{during / usual:.0%} of its {usual:.1f} fps"
        )
        assert stalled <= pace.allow(3) and back <= pace.allow(5) and during >= 0.95 * usual / pace.factor
        assert status.stalls >= 1

    def test_other_size_and_codec_after_a_restart(self, figure):
        with RtspServer(fps=10) as server, Watched(server.url) as run:
            run.wait_frame(timeout_s=15)
            seconds = []
            for size_wh, codec in (((640, 352), "h264"), ((320, 240), "mjpeg")):
                server.kill()
                run.wait_state("lost", "stalled")
                server.start(size_wh, codec)
                seconds.append(run.wait_frame())
                assert run.frames[-1][3] == (size_wh[1], size_wh[0], 3)
                assert run.stream.status()[0].size_hw == (size_wh[1], size_wh[0])
        figure(f"640x352 after {seconds[0]:.1f} s, MJPEG after {seconds[1]:.1f} s")


class TestRefusal:
    def test_each_has_its_code_within_six_seconds(self, rtsp, pace, figure):
        times = {}
        with RtspServer(login="user:p%40ss") as server, SilentServer() as silent:
            at = f"127.0.0.1:{server.port}"
            for url, code in {
                f"rtsp://user:wrong@{at}/live": "unauthorised",
                f"rtsp://user:p@ss@{at}/nothing": "not-found",
                f"rtsp://127.0.0.1:{free_port()}/live": "refused",
                f"rtsp://127.0.0.1:{silent.port}/live": "silent",
                f"http://127.0.0.1:{silent.port}/video": "silent",
                "rtsp://no-such-host.invalid/live": "unknown-host",
            }.items():
                start = time.monotonic()
                with pytest.raises(SourceError) as caught:
                    next(iter(open_source(url)))
                times[code] = time.monotonic() - start
                assert caught.value.code == code, caught.value
                assert "wrong" not in str(caught.value)
            assert next(iter(open_source(f"rtsp://user:p@ss@{at}/live"))).image.shape == (240, 320, 3)
        figure(", ".join(f"{code} {seconds:.1f} s" for code, seconds in times.items()))
        assert max(times.values()) <= pace.allow(6)

    def test_encrypted_stream_with_a_self_signed_certificate(self, rtsp, tmp_path, figure):
        """rtsps:// with a password; the same server by rtsp:// and with another password."""
        subject = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "own.pem", "-days", "1", "-subj", "/CN=camera"]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], check=True)
        both = tmp_path / "both.pem"
        both.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "own.pem").read_text())
        with RtspServer(login="user:p%40ss", certificate=both) as server:
            start = time.monotonic()
            frame = next(iter(open_source(server.url)))
            figure(f"first frame after {time.monotonic() - start:.1f} s, {1000 * age_s(frame.image):.0f} ms old")
            for url, code in {
                server.url.replace("p%40ss", "wrong"): "unauthorised",
                server.url.replace("rtsps", "rtsp"): "not-a-stream",
            }.items():
                with pytest.raises(SourceError) as caught:
                    next(iter(open_source(url)))
                assert caught.value.code == code, caught.value

    def test_wrong_password_is_not_tried_again_soon(self, figure):
        server = MjpegServer(login="user:right")
        with server, Watched(f"http://user:wrong@127.0.0.1:{server.port}/video") as run:
            run.wait_state("lost")
            asked = server.requests
            time.sleep(10)
            more = server.requests - asked
            assert run.stream.status()[0].state == "lost"
        figure(f"{more} further requests within 10 s")
        assert more == 0


class TestMjpeg:
    def test_cut_pictures_are_counted(self, figure):
        with MjpegServer() as server, Watched(server.url, stamped=False) as run:
            run.wait_frame()
            server.fault = "cut"
            time.sleep(4)
            server.fault = ""
            run.wait_frame()
            (status,) = run.stream.status()
        figure(f"{server.cut} of {server.sent} pictures cut, {status.dropped['damaged']} counted as damaged")
        assert run.error is None and status.processed > 20
        assert status.dropped["damaged"] >= 0.8 * server.cut

    @pytest.mark.parametrize("fault", ["freeze", "close", "header"])
    def test_fault_passes(self, fault, pace, figure):
        with MjpegServer() as server, Watched(server.url) as run:
            run.wait_frame()
            server.fault = fault
            if fault == "header":  # it is sent at the next request
                for child in children(os.getpid()):
                    os.kill(child, 9)
            gone = run.wait_state("stalled", "lost")
            time.sleep(2)
            server.fault = ""
            back = run.wait_frame()
        figure(f"noticed after {gone:.2f} s, back {back:.1f} s after the repair")
        assert run.error is None
        assert gone <= pace.allow(3) and back <= pace.allow(5)

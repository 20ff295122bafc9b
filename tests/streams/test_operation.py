"""`edge-mrcnn run` in operation: signals in each state, full disks, a killed recording, secrets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from stream_servers import MjpegServer, SilentServer, children, free_port

from runtimes.sinks import find_segments
from runtimes.sources import open_source

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
STARTED_S = 60.0
"""How long a command may take to load its model."""


class Run:
    """`edge-mrcnn run` in a process, its output in files."""

    def __init__(self, folder: Path, *arguments: object, wrap: tuple[str, ...] = ()) -> None:
        self.errors_path = folder / "errors.txt"
        command = [*wrap, sys.executable, "-m", "edge_mrcnn", "-v", "run", "--threads", "1", *map(str, arguments)]
        with self.errors_path.open("w") as errors:
            self.process = subprocess.Popen(command, stdout=errors, stderr=errors, cwd=ROOT, env=ENVIRONMENT)

    @property
    def text(self) -> str:
        return self.errors_path.read_text()

    def wait_for(self, holds, what: str) -> None:
        deadline = time.monotonic() + STARTED_S
        while not holds() and time.monotonic() < deadline:
            assert self.process.poll() is None, self.text
            time.sleep(0.02)
        assert holds(), f"not {what} in time: {self.text}"

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; the seconds until the process has ended."""
        family = children(self.process.pid)
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=30)
        seconds = time.monotonic() - start
        time.sleep(0.3)
        assert not [child for child in family if Path(f"/proc/{child}").exists()], "a child is left"
        return seconds


@pytest.fixture
def noise(tmp_path) -> Path:
    """A video that compresses badly, 640 x 480."""
    path = tmp_path / "noise.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (640, 480))
    rng = np.random.default_rng(0)
    for _ in range(150):
        writer.write(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    writer.release()
    return path


class TestSignals:
    @pytest.mark.parametrize("state", ["opening", "live", "stalled", "lost"])
    def test_ends_in_time_with_a_finished_recording(self, state, model_files, tmp_path, pace, figure):
        lines, saved = tmp_path / "out.jsonl", tmp_path / "out.mp4"
        with MjpegServer() as server, SilentServer() as silent:
            url = f"http://127.0.0.1:{silent.port}/video" if state == "opening" else server.url
            run = Run(
                tmp_path, "--model", model_files[".onnx"], "--source", url, "--wait", "--json", lines, "--save", saved
            )
            if state == "opening":
                run.wait_for(lambda: children(run.process.pid), "opening")
            else:
                run.wait_for(lambda: lines.exists() and lines.stat().st_size, "live")
            if state == "stalled":
                server.fault = "freeze"
                run.wait_for(lambda: "no frame for" in run.text, "stalled")
            elif state == "lost":
                server.fault = "close"
                run.wait_for(lambda: "reconnecting" in run.text, "lost")
            seconds = run.end(signal.SIGINT if state == "live" else signal.SIGTERM)
        figure(f"{seconds:.2f} s")
        assert run.process.returncode == 0, run.text
        assert seconds <= pace.allow(3)
        assert "stopped" in run.text and "Traceback" not in run.text
        if state != "opening":
            kept, recorded = len(list(open_source(saved))), len(lines.read_text().splitlines())
            assert recorded > 0 and abs(kept - recorded) <= 2

    def test_ends_in_time_while_the_model_hangs(self, model_files, pace, figure):
        code = (
            "import sys, time; import runtimes; from runtimes import FakeRuntime\n"
            "runtimes.load = lambda *a, **k: FakeRuntime(latency_s=60)\n"
            "from edge_mrcnn.cli import main\n"
            "sys.argv = ['edge-mrcnn', 'run', '--model', sys.argv[1], '--source', 'synthetic']; main()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, model_files[".onnx"]],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert b"on synthetic" in process.stderr.readline()
        time.sleep(1)
        start = time.monotonic()
        process.terminate()
        process.communicate(timeout=30)
        seconds = time.monotonic() - start
        figure(f"{seconds:.2f} s")
        assert process.returncode == 0 and seconds <= pace.allow(3)

    def test_second_signal_ends_at_once(self, model_files, pace, figure):
        code = (
            "import sys, time; import runtimes; from runtimes import FakeRuntime\n"
            "runtimes.load = lambda *a, **k: FakeRuntime()\n"
            "from edge_mrcnn.cli import main, run\n"
            "run.Session.close = lambda *a: time.sleep(60)\n"  # something hangs on the way out
            "sys.argv = ['edge-mrcnn', 'run', '--model', sys.argv[1], '--source', 'synthetic']; main()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, model_files[".onnx"]],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert b"on synthetic" in process.stderr.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        seconds = time.monotonic() - start
        figure(f"{seconds:.2f} s, exit code {process.returncode}")
        assert seconds < pace.allow(0.5) and process.returncode == 128 + signal.SIGINT


class TestRecording:
    def test_killed_recording_can_be_played(self, model_files, tmp_path, figure):
        lines, saved = tmp_path / "out.jsonl", tmp_path / "out.mp4"
        run = Run(
            tmp_path, "--model", model_files[".onnx"], "--source", "synthetic#fps=20", "--json", lines, "--save", saved
        )
        run.wait_for(lambda: lines.exists() and lines.read_text().count("\n") > 100, "recording")
        run.process.kill()
        run.process.wait()
        times = [json.loads(line)["time_s"] for line in lines.read_text().splitlines()[:-1]]
        kept = list(open_source(saved))
        share = len(kept) / len(times)
        figure(f"{len(kept)} of {len(times)} frames ({share:.0%}) of {times[-1] - times[0]:.1f} s can be played")
        assert times[-1] - times[0] - len(kept) * (times[-1] - times[0]) / len(times) < 3.5

    @pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounting needs root")
    @pytest.mark.parametrize(("keep", "words"), [("0", "No space left"), ("0.4", "nearly full")])
    def test_full_disk_ends_the_recording_only(self, keep, words, model_files, noise, tmp_path, figure):
        """A disk of 4 MB, mounted where only this process sees it."""
        disk, lines = tmp_path / "disk", tmp_path / "out.jsonl"
        disk.mkdir()
        script = 'mount -t tmpfs -o size=4m none "$0" && "$@"; code=$?; cp "$0"/out.mp4 "$0".mp4; exit $code'
        run = Run(
            tmp_path, "--model", model_files[".onnx"], "--source", noise, "--json", lines, "--save", disk / "out.mp4",
            "--keep-free", keep, wrap=("unshare", "-m", "sh", "-c", script, str(disk)),
        )  # fmt: skip
        assert run.process.wait(timeout=120) == 1, run.text
        assert "is incomplete" in run.text
        kept = list(open_source(f"{disk}.mp4"))
        stopped = run.text.count("recording stopped, detection continues")
        size = Path(f"{disk}.mp4").stat().st_size
        figure(f"{stopped} message; {len(kept)} frames in {size / 1e6:.1f} MB can be played; all 150 were inferred")
        assert stopped == 1 and words in run.text
        assert len(lines.read_text().splitlines()) == 150
        assert kept

    @pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounting needs root")
    def test_split_recording_goes_on_in_little_room(self, model_files, noise, tmp_path, figure):
        """Twelve files of more than a megabyte each on a disk of 4 MB, of which one stays free."""
        disk, lines, kept = tmp_path / "disk", tmp_path / "out.jsonl", tmp_path / "kept"
        disk.mkdir()
        script = 'mount -t tmpfs -o size=4m none "$0" && "$@"; code=$?; cp -a "$0" "$0"/../kept; exit $code'
        run = Run(
            tmp_path, "--model", model_files[".onnx"], "--source", noise, "--json", lines, "--save", disk / "out.mp4",
            "--split", "0.01", "--keep-free", "1", wrap=("unshare", "-m", "sh", "-c", script, str(disk)),
        )  # fmt: skip
        assert run.process.wait(timeout=120) == 0, run.text
        files = find_segments(kept / "out.mp4")
        frames = [len(list(open_source(file))) for file in files]
        figure(f"{len(files)} newest files with {frames} frames are left and can be played; all 150 were inferred")
        assert "recording stopped" not in run.text
        assert frames[0] >= 12 and 0 < len(files) < 5
        assert len(lines.read_text().splitlines()) == 150


class TestSecrets:
    @pytest.mark.parametrize(
        ("login", "secret"),
        [("j.doe:p@ssw0rd", "ssw0rd"), ("user:sl/ashed", "ashed"), ("user:per%40cent", "per%40cent")],
    )
    def test_password_is_nowhere(self, login, secret, model_files, tmp_path, figure):
        lines = tmp_path / "out.jsonl"
        with MjpegServer(login=login.replace("%40", "@")) as server:
            server_url = f"http://{login}@127.0.0.1:{server.port}/video?token=t0ken-value"
            run = Run(tmp_path, "--model", model_files[".onnx"], "--source", server_url, "--wait", "--json", lines)
            run.wait_for(lambda: lines.exists() and lines.stat().st_size, "live")
            reader = children(run.process.pid)[0]
            command_line = Path(f"/proc/{reader}/cmdline").read_bytes().decode()
            server.fault = "close"
            run.wait_for(lambda: "reconnecting" in run.text, "lost")
            run.end()
        everything = run.text + lines.read_text() + command_line
        for word in (secret, "t0ken-value"):
            assert word not in everything
        figure("in no log, record or command line of the reading process")


def test_closed_port_is_an_error_in_one_line(model_files, tmp_path, figure):
    start = time.monotonic()
    run = Run(tmp_path, "--model", model_files[".onnx"], "--source", f"rtsp://127.0.0.1:{free_port()}/live")
    assert run.process.wait(timeout=60) == 1
    assert "nothing listens" in run.text.splitlines()[-1]
    figure(f"{time.monotonic() - start:.1f} s, loading the model included")

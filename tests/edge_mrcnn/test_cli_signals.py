"""Signals at any time, users without a home folder, and file names that are not text: one line, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mrcnn.cli.interruption import Interruption, came_of_interrupt
from runtimes import UsageError
from runtimes.errors import UnavailableError
from runtimes.home import user_folder
from runtimes.output_paths import expect_writable
from runtimes.sources import open_source

ROOT = Path(__file__).parents[2]


def start(*arguments, **options):
    """Run a command in the background. It hears SIGHUP even if the tests run under nohup, which ignores it."""
    command = [sys.executable, "-m", "edge_mrcnn", *map(os.fsencode, map(str, arguments))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    options = {"preexec_fn": hear_hangup, **options}
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def hear_hangup():
    """Restore the default action of SIGHUP in a child process."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class TestSignals:
    @pytest.mark.parametrize(
        ("number", "after_s"),
        [(signal.SIGINT, 0.2), (signal.SIGINT, 1.0), (signal.SIGTERM, 0.5), (signal.SIGHUP, 0.2)],
    )
    def test_signal_during_the_start_is_one_line(self, model_files, number, after_s):
        process = start("run", "--model", model_files[".onnx"], "--source", "synthetic", "--wait")
        # Until the program itself begins, a signal is Python's business.
        wait_until_minded(process)
        time.sleep(after_s)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors and errors.count("stopped") == 1, errors
        assert process.returncode in (0, 128 + number, 130)

    def test_verb_without_a_loop_ends_in_one_line_too(self, model_files, tmp_path):
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 96, 3), np.uint8))
        for copy in range(2000):
            (tmp_path / f"{copy}.png").hardlink_to(tmp_path / "a.png")
        process = start("predict", "--model", model_files[".onnx"], "--source", tmp_path, "-o", tmp_path / "out")
        assert process.stdout is not None and process.stdout.readline()  # the first picture is done
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert errors.strip().splitlines()[-1] == "stopped" and "Traceback" not in errors
        assert process.returncode == 128 + signal.SIGTERM

    def test_a_hangup_finishes_the_files_as_the_others_do(self, model_files, tmp_path):
        lines = tmp_path / "log.jsonl"
        process = start("run", "--model", model_files[".onnx"], "--source", "synthetic#fps=30", "--json", lines)
        deadline = time.monotonic() + 60
        while not (lines.exists() and lines.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGHUP)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and f"wrote {lines}" in output and "stopped" in errors

    def test_signal_that_nohup_ignores_stays_ignored(self, model_files, tmp_path):
        arguments = ("run", "--model", model_files[".onnx"], "--source", "synthetic#fps=30", "--max-frames", 60)
        process = start(*arguments, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        for _ in range(10):
            time.sleep(0.2)
            process.send_signal(signal.SIGHUP)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and "60 frames in" in output


def test_error_that_a_library_makes_of_a_signal_is_a_signal():
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error
    except ImportError as error:
        assert came_of_interrupt(error)
    assert not came_of_interrupt(ImportError("no such module"))


def test_children_that_end_with_the_command_are_no_error():
    def fail(*_):
        raise RuntimeError("a worker exited unexpectedly")

    before = signal.signal(signal.SIGCHLD, fail)
    try:
        with pytest.raises(KeyboardInterrupt):
            Interruption()(signal.SIGTERM, None)
        subprocess.run([sys.executable, "-c", ""], check=True)  # its end is a SIGCHLD
    finally:
        signal.signal(signal.SIGCHLD, before)


def wait_until_minded(process):
    """Wait until the kernel shows a handler of the process for a signal."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)


class TestNoHome:
    @pytest.fixture
    def homeless(self, monkeypatch, tmp_path):
        for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

        def fail():
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", fail)
        return tmp_path / f"edge-mrcnn-{os.getuid()}"

    def test_a_user_without_one_has_a_private_folder(self, homeless):
        assert user_folder("XDG_CACHE_HOME", ".cache") == homeless / ".cache"
        assert homeless.stat().st_mode & 0o777 == 0o700

    def test_folder_that_others_could_write_is_refused(self, homeless):
        homeless.mkdir()
        homeless.chmod(0o777)
        with pytest.raises(UnavailableError, match="other users have access"):
            user_folder("XDG_CACHE_HOME", ".cache")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_user_id_without_a_name_has_a_private_folder(self):
        code = (
            "import os; from runtimes.home import user_folder\n"
            "os.environ.pop('HOME', None); os.setgid(54321); os.setuid(54321)\n"
            "print(user_folder('XDG_STATE_HOME', 'x'))"
        )
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o777)
            environment = {**os.environ, "TMPDIR": folder}
            environment.pop("XDG_STATE_HOME", None)
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
            )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{folder}/edge-mrcnn-54321/x"


class TestNamesThatAreNoText:
    NAME = os.fsdecode(b"clip-\xff.avi")

    def test_are_refused_as_source_and_output(self, tmp_path):
        for act in (lambda: open_source(self.NAME), lambda: expect_writable(tmp_path / self.NAME)):
            with pytest.raises(UsageError, match="not valid UTF-8"):
                act()

    def test_names_that_are_not_text_are_one_line_on_the_command_line(self, tmp_path):
        video = tmp_path / self.NAME
        writer = cv2.VideoWriter(str(tmp_path / "x.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20, (96, 64))
        writer.write(np.zeros((64, 96, 3), np.uint8))
        writer.release()
        (tmp_path / "x.avi").rename(video)
        process = start("run", "--model", "m.onnx", "--source", video)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2 and errors.startswith("error: ") and len(errors.splitlines()) == 1

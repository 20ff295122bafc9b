"""GStreamer pipelines in the reading process, run by the system's Python, whose OpenCV has GStreamer on Debian."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys
import time
import types
from pathlib import Path

import cv2
import pytest

from runtimes import SourceError
from runtimes.sources import connection, open_source

ROOT = Path(__file__).parents[2]
SYSTEM = "/usr/bin/python3"
BUILT_WITH = "GStreamer:                   YES"


@pytest.fixture(autouse=True)
def system_python(monkeypatch):
    probe = f"import cv2, sys; print(sys.path); sys.exit({BUILT_WITH!r} not in cv2.getBuildInformation())"
    result = subprocess.run([SYSTEM, "-c", probe], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    if result.returncode:
        pytest.skip("needs python3-opencv from Debian")
    path = ast.literal_eval(result.stdout)
    monkeypatch.setattr(connection, "sys", types.SimpleNamespace(executable=SYSTEM, path=path))
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: BUILT_WITH)


def test_pipeline_gives_frames_in_rgb(figure):
    """The test pattern begins with white, yellow, cyan, green, magenta, red and blue bars."""
    source = open_source("videotestsrc is-live=true ! video/x-raw,width=350,height=240,framerate=20/1")
    assert "appsink" not in source.name
    start = time.monotonic()
    frame = list(itertools.islice(source, 5))[-1]
    figure(f"fifth frame after {time.monotonic() - start:.1f} s")
    colours = [tuple(int(level > 96) for level in frame.image[100, 25 + 50 * bar]) for bar in range(7)]
    assert colours == [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1)]


def test_pipeline_that_does_not_start_is_given_up(figure):
    """OpenCV 4.6 waits for ever for an element that does not exist."""
    start = time.monotonic()
    with pytest.raises(SourceError) as caught:
        next(iter(open_source("nosuchelement ! videoconvert")))
    figure(f"{caught.value.code} after {time.monotonic() - start:.1f} s")
    assert caught.value.code in ("silent", "unreadable", "lost")


@pytest.fixture(scope="module")
def system_environment(tmp_path_factory):
    """An environment that sees Debian's OpenCV, as guides tell owners of a Jetson to make one."""
    folder = tmp_path_factory.mktemp("system") / "venv"
    subprocess.run([SYSTEM, "-m", "venv", "--system-site-packages", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    packages = ["click", "onnxruntime", "numpy<2"]  # Debian's OpenCV is built for NumPy 1
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, *packages]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs uv and a package index")
    return python


@pytest.mark.network
def test_command_line_runs_a_pipeline(system_environment, model_files, tmp_path, figure):
    start = time.monotonic()
    pipeline = "bars=videotestsrc num-buffers=200 is-live=true ! video/x-raw,width=320,height=240,framerate=20/1"
    command = [
        system_environment,
        "-m",
        "edge_mrcnn",
        "run",
        "--model",
        str(model_files[".onnx"]),
        "--source",
        pipeline,
    ]
    records = tmp_path / "out.jsonl"
    result = subprocess.run(
        [*command, "--max-frames", "5", "--json", str(records)],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    figure(f"{len(lines)} frames, after {time.monotonic() - start:.1f} s")
    assert len(lines) == 5
    assert {(line["source"], *line["image_size_hw"]) for line in lines} == {("bars", 240, 320)}

"""`edge_mrcnn.stream`: the camera loop in Python."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_mrcnn
from runtimes import FakeRuntime, SourceError

ROOT = Path(__file__).parents[2]


def test_gives_every_image_with_its_objects(model_files, tmp_path):
    for name, count in (("0.png", 3), ("1.png", 0)):
        cv2.imwrite(str(tmp_path / name), np.full((64, 96, 3), (0, 0, count), np.uint8))
    found = [len(detections) for _, detections in edge_mrcnn.stream(model_files[".onnx"], tmp_path, threads=1)]
    assert found == [3, 0]


def test_threshold_may_change_and_the_model_is_closed():
    runtime = FakeRuntime()
    stream = edge_mrcnn.stream(runtime, "synthetic#fps=200")
    counts = []
    for _, detections in itertools.islice(stream, 10):
        counts.append(len(detections))
        stream.conf = 0.95
    stream.stop()
    assert counts[0] == 1 and counts[-1] == 0


def test_several_sources_and_stop():
    runtime = FakeRuntime()
    stream = edge_mrcnn.stream(runtime, ["a=synthetic#fps=100", "b=synthetic#fps=100"])
    names = set()
    for frame, _ in stream:
        names.add(frame.source)
        if names == {"a", "b"}:
            stream.stop()
    assert runtime.is_closed
    assert stream.counts.in_flight == 0


def test_wrong_source_is_an_error_at_once():
    with pytest.raises(SourceError, match="no such file"):
        edge_mrcnn.stream(FakeRuntime(), "nowhere.mp4")


def test_is_imported_when_used_and_without_torch():
    code = (
        "import sys, edge_mrcnn; assert 'runtimes' not in sys.modules; edge_mrcnn.stream; "
        "assert not {'torch', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

"""Number of threads of the runtimes, read from the SDK or from the operating system."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import runtimes
from runtimes.board import choose_threads, read_cores

ROOT = Path(__file__).parents[2]
CORES = len(read_cores())


@pytest.fixture
def open_onnx(model_files):
    pytest.importorskip("onnxruntime", reason="needs edge-mrcnn[onnx]")
    return lambda **options: runtimes.load(model_files[".onnx"], **options)._session.get_session_options()


def test_default_is_a_thread_for_each_core():
    assert choose_threads(None) == CORES
    assert choose_threads(3) == 3


class TestOnnx:
    def test_threads_are_those_asked_for_or_one_for_each_core(self, open_onnx):
        assert open_onnx(threads=3).intra_op_num_threads == 3
        assert open_onnx().intra_op_num_threads == CORES

    def test_threads_do_not_spin_by_default(self, open_onnx):
        entries = [o.get_session_config_entry("session.intra_op.allow_spinning")
                   for o in (open_onnx(), open_onnx(spinning=True))]  # fmt: skip
        assert entries == ["0", "1"]


def test_openvino_takes_the_threads_asked_for(model_files):
    pytest.importorskip("openvino", reason="needs edge-mrcnn[openvino]")
    with runtimes.load(model_files[".xml"], threads=1) as model:
        assert model._compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_openvino_runs_several_frames_at_once(model_files):
    pytest.importorskip("openvino", reason="needs edge-mrcnn[openvino]")
    frames = [np.full((64, 96, 3), (count, 0, 0), np.uint8) for count in (2, 4)]  # a toy model finds so many objects
    with runtimes.load(model_files[".xml"], threads=2) as model, ThreadPoolExecutor(2) as pool:
        lanes = model.lanes(2)
        assert model._compiled.get_property("NUM_STREAMS") == 2
        counts = [list(pool.map(lambda r, x: len(r.infer(x)), lanes, frames)) for _ in range(20)]
    assert counts == [[2, 4]] * 20


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".tflite"])
def test_process_held_to_one_processor_gets_one_thread(model_files, suffix):
    sdk = {".onnx": "onnxruntime", ".xml": "openvino", ".tflite": "ai_edge_litert"}[suffix]
    pytest.importorskip(sdk, reason="needs its extra")
    assert count_new_threads(model_files[suffix], "None") == count_new_threads(model_files[suffix], "1")


def count_new_threads(file: Path, threads: str) -> int:
    """Number of additional threads of a process with one processor after opening a model."""
    code = (
        "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "import runtimes, runtimes.preprocess; before = len(os.listdir('/proc/self/task'))\n"
        f"model = runtimes.load({str(file)!r}, threads={threads}); print(len(os.listdir('/proc/self/task')) - before)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return int(result.stdout)

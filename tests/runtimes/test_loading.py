"""`load`: its errors and arguments; shared threads; the same arguments for both functions of inference."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import runtimes
from runtimes import FakeRuntime, ImageError, OnnxOptions, OpenVinoOptions, Runtime, TfliteOptions, UsageError
from runtimes.formats import files_of, suffixes
from runtimes.model_card import ModelCard

ROOT = Path(__file__).parents[2]

WRONG = [
    (".onnx", {"thread": 2}, "thread: no such option, did you mean threads"),
    (".onnx", {"nonsense": 2}, "takes threads, device, spinning, providers, cache_dir"),
    (".onnx", {"precision": "f32"}, r"precision: is an option of OpenVINO \(OpenVinoOptions\)"),
    (".xml", {"presicion": "f32"}, "did you mean precision"),
    (".tflite", {"spinning": True}, "spinning: is an option of ONNX Runtime"),
    (".onnx", {"options": OpenVinoOptions()}, r"take OnnxOptions\(\.\.\.\), got OpenVinoOptions"),
    (".xml", {"options": "fast"}, r"take OpenVinoOptions\(\.\.\.\), got str"),
    (".tflite", {"device": "gpu"}, r"device 'gpu': \.tflite files run with TFLite, on cpu"),
    (".onnx", {"device": "npu"}, "on cpu, cuda, tensorrt"),
    (".xml", {"device": "xpu"}, "on cpu, gpu, npu, auto"),
    (".onnx", {"device": 3}, "device 3"),
    (".onnx", {"threads": 0}, "threads 0: expected a whole number of at least 1"),
    (".onnx", {"threads": "2"}, "threads '2'"),
    (".onnx", {"providers": "CPUExecutionProvider"}, "expected a list"),
]


@pytest.mark.parametrize(("suffix", "arguments", "words"), WRONG)
def test_wrong_argument_is_a_usage_error_that_names_the_right_one(suffix, arguments, words, model_files):
    with pytest.raises(UsageError, match=words):
        runtimes.load(model_files[suffix], **arguments)


@pytest.mark.parametrize("suffix", suffixes())
@pytest.mark.parametrize("device", ["cpu", "CPU", None])
def test_the_cpu_goes_by_one_name(suffix, device, model_files):
    with runtimes.load(model_files[suffix], threads=1, device=device) as model:
        assert len(model.infer(red(2))) == 2


@pytest.mark.parametrize(
    ("suffix", "options", "single"),
    [
        (".onnx", OnnxOptions(spinning=True), {"spinning": True}),
        (".xml", OpenVinoOptions(precision="auto"), {"precision": "auto"}),
        (".tflite", TfliteOptions(), {}),
    ],
)
def test_options_come_together_or_one_by_one(suffix, options, single, model_files):
    for arguments in ({"options": options}, single):
        with runtimes.load(model_files[suffix], threads=1, **arguments) as model:
            assert len(model.infer(red(1))) == 1


def test_single_option_goes_before_the_others(model_files):
    options = OpenVinoOptions(precision="auto", streams=2)
    with runtimes.load(model_files[".xml"], options=options, precision="f32") as model:
        assert model.describe()["float layers"] == "f32"
        assert model._compiled.get_property("NUM_STREAMS") == 2


class TestLanes:
    @pytest.mark.parametrize("suffix", suffixes())
    def test_all_lanes_run_at_once(self, suffix, model_files):
        with runtimes.load(model_files[suffix], threads=2) as model, ThreadPoolExecutor(3) as pool:
            lanes = model.lanes(3)
            assert lanes[0] is model and len(set(map(id, lanes))) == 3
            counts = [list(pool.map(lambda r, n: len(r.infer(red(n))), lanes, (1, 3, 5))) for _ in range(10)]
            assert counts == [[1, 3, 5]] * 10
            assert model.lanes(1) == [model] and len(model.infer(red(4))) == 4

    def test_openvino_has_streams_of_one_model(self, model_files):
        with runtimes.load(model_files[".xml"], threads=2) as model:
            lanes = model.lanes(2)
            assert model._compiled.get_property("NUM_STREAMS") == 2
            assert lanes[1]._compiled is model._compiled

    def test_onnx_has_sessions_with_a_share_of_the_threads(self, model_files):
        with runtimes.load(model_files[".onnx"], threads=4) as model:
            threads = [lane._session.get_session_options().intra_op_num_threads for lane in model.lanes(2)]
        assert threads == [2, 2]

    def test_threads_are_shared_anew_each_time(self, model_files):
        with runtimes.load(model_files[".onnx"], threads=4) as model:
            for count, share in ((4, 1), (2, 2), (5, 1), (1, 4)):
                first, *_ = model.lanes(count)
                assert first._session.get_session_options().intra_op_num_threads == share

    def test_closing_the_first_closes_all(self):
        first, second = FakeRuntime().lanes(2)
        first.close()
        assert second.is_closed

    @pytest.mark.parametrize("count", [0, -1, 1.5, True])
    def test_impossible_number(self, count):
        with pytest.raises(UsageError, match="expected a whole number"):
            FakeRuntime().lanes(count)

    def test_runtime_of_one_lane_is_reported(self):
        class Single(Runtime):
            run = FakeRuntime.run

            def close(self) -> None: ...

        card: ModelCard = FakeRuntime().card
        assert len(Single(card).lanes(1)) == 1
        with pytest.raises(UsageError, match="a Single takes one frame at a time"):
            Single(card).lanes(2)


class TestInfer:
    @pytest.mark.parametrize("suffix", suffixes())
    def test_one_and_many_take_the_same_arguments(self, suffix, model_files):
        blue_of_bgr = red(4)[..., ::-1]
        with runtimes.load(model_files[suffix], threads=1) as model:
            assert len(model.infer(blue_of_bgr, order="bgr", conf=0.75)) == 2  # scores 0.9, 0.8, 0.7, 0.6
            assert [len(d) for d in model.infer_batch([blue_of_bgr] * 2, order="bgr", conf=0.75)] == [2, 2]
            assert [len(d) for d in model.infer_batch([blue_of_bgr] * 2, order="bgr")] == [4, 4]
            everything = model.infer(blue_of_bgr, order="bgr")
            wanted = everything.class_names[0]
            chosen = [
                model.infer(blue_of_bgr, order="bgr", classes=[wanted]),
                *model.infer_batch([blue_of_bgr], order="bgr", classes=wanted),
            ]
            assert [one.class_names for one in chosen] == [everything.filter(classes=wanted).class_names] * 2
            assert not len(model.infer(blue_of_bgr, order="bgr", classes=[]))
            with pytest.raises(UsageError, match="class 'unheard-of': the model has"):
                model.infer_batch([], classes="unheard-of")
            with pytest.raises(UsageError, match="order 'gbr'"):
                model.infer_batch([red(1)], order="gbr")


class TestSubmit:
    @pytest.mark.parametrize("suffix", suffixes())
    @pytest.mark.parametrize("lanes", [1, 2])
    def test_futures_give_the_results_of_infer(self, suffix, lanes, model_files):
        with runtimes.load(model_files[suffix], threads=2) as model:
            model.lanes(lanes)
            futures = [model.submit(red(count), conf=0.1) for count in (1, 4, 2, 3, 0)]
            assert [len(future.result()) for future in futures] == [1, 4, 2, 3, 0]

    def test_lanes_work_at_the_same_time(self):
        meeting = threading.Barrier(2, timeout=20)  # neither gets on alone
        is_open = threading.Event()

        def respond(x):
            if is_open.is_set():
                meeting.wait()
            return FakeRuntime().run(x)

        with FakeRuntime(respond=respond) as model:
            model.lanes(2)
            is_open.set()
            assert [len(future.result()) for future in [model.submit(red(1)), model.submit(red(1))]] == [1, 1]

    def test_await_lets_other_tasks_run(self):
        async def infer_and_count() -> tuple[list[int], int]:
            turns = 0
            with FakeRuntime(latency_s=0.05) as model:
                work = asyncio.gather(*(model.infer_async(red(1)) for _ in range(2)))
                while not work.done():
                    turns += 1
                    await asyncio.sleep(0)
                return [len(found) for found in await work], turns

        lengths, turns = asyncio.run(infer_and_count())
        assert lengths == [1, 1] and turns > 10

    def test_error_comes_with_the_result(self):
        with FakeRuntime() as model:
            future = model.submit(np.zeros((4, 4), np.uint8))
            with pytest.raises(ImageError, match="expected an image"):
                future.result()
            assert len(model.submit(red(1)).result()) == 1

    def test_closing_cancels_what_has_not_begun(self):
        begun = threading.Event()

        def respond(x):
            begun.set()
            return FakeRuntime().run(x)

        model = FakeRuntime(respond=respond, latency_s=0.05)
        futures = [model.submit(red(1)) for _ in range(20)]
        begun.wait()
        model.close()
        assert all(future.done() for future in futures)
        assert len(futures[0].result()) == 1 and futures[-1].cancelled()


def red(count: int) -> np.ndarray:
    """A picture in which the toy models find `count` objects."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[..., 0] = count
    return image


COPY_OVER = """
import sys
import numpy as np
import runtimes
from runtimes.formats import files_of
from pathlib import Path

path = Path(sys.argv[1])
image = np.full((64, 96, 3), (3, 0, 0), np.uint8)
with runtimes.load(path, threads=1) as model:
    before = len(model.infer(image))
    for file in files_of(path):
        file.write_bytes(b"")
    print(before, len(model.infer(image)), flush=True)
    try:
        model.lanes(2)
    except runtimes.ModelFileError as error:
        print(error)
"""


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".tflite"])
def test_model_that_is_copied_over_while_it_runs_goes_on(suffix, model_files, tmp_path):
    for file in files_of(model_files[suffix]):
        shutil.copy(file, tmp_path / file.name)
    path = tmp_path / model_files[suffix].name
    result = subprocess.run([sys.executable, "-c", COPY_OVER, path], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    first, *rest = result.stdout.splitlines()
    assert first == "3 3"
    assert not rest or "changed since it was opened; load it again" in rest[0]

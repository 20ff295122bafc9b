"""Benchmarks: computations on given times, and real child processes on the toy model and on models of other tools."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import runtimes
from edge_mrcnn.benchmark.candidates import (
    Candidate,
    check_threads,
    default_threads,
    find_models,
    list_candidates,
    parse_devices,
    parse_precisions,
)
from edge_mrcnn.benchmark.child import Child, ChildError, Work
from edge_mrcnn.benchmark.foreign import Port, fill_ports, open_net
from edge_mrcnn.benchmark.frames import generate_frames, save_frames
from edge_mrcnn.benchmark.rows import (
    Benchmark,
    Surroundings,
    Sustained,
    SustainedWindow,
    compare_rounds,
    dropped_share,
    summarize,
)
from edge_mrcnn.benchmark.session import BenchmarkSession, CandidateTrial, Plan, Turn, is_memory_tight, read_load
from edge_mrcnn.benchmark.tables import WIDTH, sustained_lines, to_markdown, to_text
from runtimes import MissingFileError, ModelFileError, UnknownFormatError, UsageError
from runtimes.board import Condition, Core, read_board

CORES = (Core((0,), 0), Core((1,), 0), Core((2,), 0), Core((3,), 0))
CARD = {"precision": "int8", "input_size_hw": [320, 320]}


def make_turn(
    total: float, *, throttling: tuple[str, ...] = (), others: float | None = 0.02, net: bool = False
) -> Turn:
    sample = {"inference": total} if net else {"preprocess": 1.0, "inference": total - 1, "total": total}
    condition = Condition(temperature_c=50.0, governor="ondemand")
    return Turn(
        samples=[sample] * 3, objects=2.0, wall_s=0.1, others_share=others, throttling=throttling, condition=condition
    )


def make_trial(
    path: Path, *totals: float, threads: int = 1, is_peer: bool = False, **changes: object
) -> CandidateTrial:
    path.write_bytes(b"model")
    trial = CandidateTrial(Candidate(path, threads, is_peer=is_peer), card={} if is_peer else CARD)
    trial.load_s, trial.first_result_s, trial.peak_bytes = [0.5], [1.5], 100_000_000
    trial.turns = [make_turn(total, net=is_peer, **changes) for total in totals]
    return trial


def make_benchmark(trials: list[CandidateTrial], **settings: object) -> Benchmark:
    values = {
        "source": "street.mp4", "pictures": 3, "rounds": 2, "warm_up": 2, "pin": True, "draw": True, "conf": 0.5,
        "camera_fps": None, **settings,
    }  # fmt: skip
    around = Surroundings(board=read_board(), conditions=(Condition(), Condition(governor="ondemand")), settings=values)
    return summarize(trials, around, camera_fps=values["camera_fps"])


def touch(folder: Path, *names: str) -> list[Path]:
    """Paths of files that are never opened."""
    for name in names:
        (folder / name).touch()
    return [folder / name for name in names]


class TestCandidates:
    @pytest.mark.parametrize(("cores", "threads"), [(1, (1,)), (2, (1, 2)), (4, (1, 2, 4)), (6, (1, 2, 4, 6))])
    def test_threads_double_up_to_the_cores(self, cores, threads):
        assert default_threads(cores) == threads

    def test_more_threads_than_processors_are_refused(self):
        check_threads((1, 4), CORES)
        with pytest.raises(UsageError, match="at most 4"):
            check_threads((1, 5), CORES)

    def test_openvino_is_tried_in_every_precision(self, tmp_path):
        found = list_candidates(touch(tmp_path, "a.onnx", "b.xml"), (1, 2), openvino_precisions=("f32", "auto"))
        assert [(c.path.name, c.threads, c.options.get("precision")) for c in found] == [
            ("a.onnx", 1, None), ("a.onnx", 2, None), ("b.xml", 1, "f32"), ("b.xml", 2, "f32"), ("b.xml", 1, "auto"),
            ("b.xml", 2, "auto"),
        ]  # fmt: skip

    def test_other_devices_are_tried_where_a_runtime_has_them(self, tmp_path):
        paths = touch(tmp_path, "a.onnx", "b.xml", "c.tflite")
        found = list_candidates(paths, (2,), devices=("cpu", "gpu", "cuda"))
        assert [(c.path.suffix, c.place, c.options.get("device")) for c in found] == [
            (".onnx", "2 threads", None), (".onnx", "cuda", "cuda"), (".xml", "2 threads", None),
            (".xml", "gpu", "gpu"), (".tflite", "2 threads", None),
        ]  # fmt: skip
        assert parse_devices("CPU, npu") == ("cpu", "npu")
        with pytest.raises(UsageError, match="tpu: expected cpu"):
            parse_devices("tpu")

    def test_precisions_are_read_and_checked(self):
        assert parse_precisions("both") == ("f32", "auto") and parse_precisions("auto") == ("auto",)
        with pytest.raises(UsageError, match="f16"):
            parse_precisions("f16")

    def test_each_model_of_a_folder_is_listed_once(self, tmp_path):
        for name in ("b.onnx", "a.tflite", "a.xml", "a.bin", "notes.txt"):
            (tmp_path / name).touch()
        found = find_models([tmp_path, tmp_path / "b.onnx"])
        assert [path.name for path in found] == ["a.tflite", "a.xml", "b.onnx"]

    def test_missing_and_empty_folders_are_reported(self, tmp_path):
        with pytest.raises(MissingFileError, match="none.onnx"):
            find_models([tmp_path / "none.onnx"])
        with pytest.raises(UsageError, match="no .onnx"):
            find_models([tmp_path])
        (tmp_path / "best.pt").touch()
        with pytest.raises(UnknownFormatError, match="best.pt: expected a model file of kind .onnx"):
            find_models([tmp_path / "best.pt"])


class TestFrames:
    def test_generated_pictures_are_always_the_same(self):
        first, again = generate_frames(2), generate_frames(2)
        assert first[0].shape == (480, 640, 3) and first[0].dtype == np.uint8 and first[0].std() > 20
        assert np.array_equal(first[1], again[1]) and not np.array_equal(first[0], first[1])

    def test_pictures_of_a_source_are_stored(self, tmp_path):
        for number in range(3):
            cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((6, 8, 3), (0, 0, number), np.uint8))
        (tmp_path / "frames").mkdir()
        files = save_frames(str(tmp_path / "*.png"), 2, tmp_path / "frames")
        assert [np.load(file)[0, 0].tolist() for file in files] == [[0, 0, 0], [1, 0, 0]]


class TestArithmetic:
    @pytest.mark.parametrize(
        ("times_ms", "fps", "share"), [([10] * 50, 30, 0), ([33.3] * 50, 30, 0), ([100] * 50, 30, 2 / 3)]
    )
    def test_frames_that_come_too_fast_are_dropped(self, times_ms, fps, share):
        assert dropped_share(times_ms, fps) == pytest.approx(share, abs=0.02)

    def test_one_slow_frame_drops_those_behind_it(self):
        assert dropped_share([10, 10, 250, 10, 10], 20) == pytest.approx(1 - 5 / 9)

    def test_ratio_is_computed_per_round(self, tmp_path):
        slow, fast = make_trial(tmp_path / "a.onnx", 40, 80, 40), make_trial(tmp_path / "b.onnx", 20, 40, 10)
        ratio = compare_rounds(slow, fast, "total")
        assert (ratio.median, ratio.low, ratio.high) == (2, 2, 4)

    def test_rows_hold_percentiles_rates_and_costs(self, tmp_path):
        trials = [make_trial(tmp_path / "a.onnx", 40, 40), make_trial(tmp_path / "b.tflite", 20, 20, threads=4)]
        first, second = make_benchmark(trials, camera_fps=40.0).rows
        assert (second.name, second.target, second.precision, second.threads) == ("b.tflite", "tflite", "int8", 4)
        assert second.latency["total"].p50 == 20 and second.fps == pytest.approx(50) and second.pictures == 6
        assert second.ratio.median == 2 and first.ratio.median == 1
        assert first.dropped == pytest.approx(0.4, abs=0.1) and second.dropped == 0

    def test_throttled_row_makes_the_benchmark_invalid(self, tmp_path):
        trials = [make_trial(tmp_path / "a.onnx", 40), make_trial(tmp_path / "b.onnx", 40, throttling=("throttled",))]
        benchmark = make_benchmark(trials)
        assert [row.name for row in benchmark.invalid] == ["b.onnx"]
        assert json.loads(benchmark.to_json())["is_valid"] is False
        assert "INVALID: the processor was throttled (throttled) in 1 of 2 rows" in to_text(benchmark).replace(
            "\n", " "
        )

    def test_failed_candidate_is_named_and_the_rest_goes_on(self, tmp_path):
        broken = CandidateTrial(Candidate(tmp_path / "c.xml", 1), error="openvino is not installed")
        benchmark = make_benchmark([broken, make_trial(tmp_path / "a.onnx", 40)])
        assert [row.name for row in benchmark.rows] == ["a.onnx"]
        assert "Not timed: c.xml, 1 thread: openvino is not installed" in to_text(benchmark)

    def test_float_layers_of_another_type_show_in_the_precision(self, tmp_path):
        trial = make_trial(tmp_path / "a.xml", 40)
        trial.runs_as = {"float layers": "bf16"}
        assert make_benchmark([trial]).rows[0].precision == "int8/bf16"


class TestSustained:
    RUN = Sustained(
        name="a.tflite", place="4 threads",
        windows=tuple(SustainedWindow(10.0 * n, 100, 30 - n, 40.0 + n, 2400 - n, ()) for n in range(1, 19)),
    )  # fmt: skip

    def test_first_minute_is_compared_with_the_last(self):
        assert self.RUN.span_s == 60
        assert self.RUN.first_fps == pytest.approx(26.4, abs=0.2)
        assert self.RUN.last_fps == pytest.approx(14.3, abs=0.2)

    def test_lines_show_curves_and_change(self):
        text = "\n".join(sustained_lines(self.RUN))
        assert "3.0 minutes" in text and "−46 %" in text and "41 to 58 °C, at most 58" in text and "█" in text


class TestTables:
    def test_text_fits_into_100_columns(self, tmp_path):
        trials = [make_trial(tmp_path / "best-int8.onnx", 400, 410), make_trial(tmp_path / "best.tflite", 1234, 1300)]
        trials.append(make_trial(tmp_path / "torchvision.onnx", 900, 900, is_peer=True))
        plain = re.sub(r"\x1b\[\d*m", "", to_text(make_benchmark(trials, camera_fps=30.0)))
        assert max(map(len, plain.splitlines())) <= WIDTH
        assert "dropped at 30" in plain and "Network alone" in plain and "peer" in plain

    def test_markdown_has_the_same_rows(self, tmp_path):
        text = to_markdown(make_benchmark([make_trial(tmp_path / "a.onnx", 40, 50)]))
        assert text.count("| a.onnx") == 3 and "sha256" in text and "| model  |" in text

    def test_busy_machine_and_generated_pictures_are_noted(self, tmp_path):
        text = to_text(make_benchmark([make_trial(tmp_path / "a.onnx", 40, others=0.6)], source=None))
        assert "Other processes used 60 %" in text and "generated" in text


class TestForeign:
    @pytest.mark.parametrize(
        ("shape", "dtype", "expected", "largest"),
        [
            ((1, 3, 32, 48), "float32", (1, 3, 32, 48), 1.0),
            ((3, None, None), "float32", (3, 24, 40), 1.0),
            ((None, 32, 32, 3), "uint8", (1, 32, 32, 3), 255),
            ((1, 32, 32, 3), "int8", (1, 32, 32, 3), 127),
            ((2, 3, 32, 32), "float16", (2, 3, 32, 32), 1.0),
        ],
    )
    def test_picture_is_converted_to_the_layout_of_the_input(self, shape, dtype, expected, largest):
        picture = np.full((60, 100, 3), 255, np.uint8)
        (tensor,) = fill_ports([Port("image", shape, dtype)], picture, (24, 40))
        assert tensor.shape == expected and tensor.dtype == dtype and tensor.max() == pytest.approx(largest)

    def test_other_inputs_are_zero(self):
        ports = [Port("image", (1, 3, 8, 8), "float32"), Port("scale", (None, 2), "int64")]
        _, scale = fill_ports(ports, np.full((8, 8, 3), 255, np.uint8), (8, 8))
        assert scale.tolist() == [[0, 0]]

    def test_net_without_an_image_input_is_refused(self):
        with pytest.raises(UsageError, match="three-channel"):
            fill_ports([Port("tokens", (1, 77), "int64")], np.zeros((8, 8, 3), np.uint8), (8, 8))

    @pytest.mark.parametrize("suffix", [".onnx", ".xml"])
    def test_files_open_by_their_own_inputs(self, model_files, suffix):
        net = open_net(model_files[suffix], 1)
        (port,) = net.ports
        assert port.shape == (1, 64, 96, 3) and port.dtype == "uint8"
        net.run(fill_ports(net.ports, np.zeros((64, 96, 3), np.uint8), (64, 96)))

    def test_unknown_and_damaged_files_are_refused(self, tmp_path):
        with pytest.raises(UnknownFormatError):
            open_net(Path("model.pth"), 1)
        (tmp_path / "broken.onnx").write_bytes(b"nothing")
        with pytest.raises(ModelFileError, match="cannot open"):
            open_net(tmp_path / "broken.onnx", 1)


@pytest.fixture
def work(tmp_path) -> Work:
    """Two pictures in which the toy model finds three objects and none."""
    files = []
    for count in (3, 0):
        files.append(tmp_path / f"{count}.npy")
        np.save(files[-1], np.full((64, 96, 3), (count, 0, 0), np.uint8))
    return Work(frames=tuple(files), conf=0.0)


class TestChild:
    def test_returns_card_memory_and_stages(self, model_files, work):
        child = Child(Candidate(model_files[".onnx"], 1), work, cpus=())
        try:
            assert child.ready["card"]["name"] == "toy" and child.first_result_s > child.ready["load_s"] > 0
            child.begin_turn(warm_up=1)
            reply = child.end_turn()
        finally:
            child.close()
        assert reply["objects"] == 1.5 and reply["peak_bytes"] > 20e6
        assert [set(s) for s in reply["samples"]] == [{"preprocess", "inference", "postprocess", "draw", "total"}] * 2

    def test_device_decides_its_own_threads(self, model_files, work):
        child = Child(Candidate(model_files[".xml"], 0, {"device": "AUTO"}), work, cpus=())
        child.close()
        assert child.ready["runs_as"]["device"]

    def test_device_that_is_not_there_is_named(self, model_files, work):
        with pytest.raises(ChildError, match="OpenVINO finds"):
            Child(Candidate(model_files[".xml"], 0, {"device": "NPU"}), work, cpus=())

    def test_damaged_model_is_named(self, tmp_path, work):
        (tmp_path / "broken.onnx").write_bytes(b"nothing")
        with pytest.raises(ChildError, match="broken.onnx"):
            Child(Candidate(tmp_path / "broken.onnx", 1), work, cpus=())

    def test_crash_of_a_child_process_is_an_error(self, model_files, work):
        with pytest.raises(ChildError, match="ended with code 1: .*Error"):
            Child(Candidate(model_files[".onnx"], 1), work, cpus=(99_999,))


class TestSession:
    def test_candidates_are_interleaved_and_a_failure_ends_only_its_own(self, model_files, tmp_path, work):
        (tmp_path / "broken.onnx").write_bytes(b"nothing")
        candidates = [
            Candidate(model_files[".onnx"], 1),
            Candidate(tmp_path / "broken.onnx", 1),
            Candidate(model_files[".onnx"], 1, is_peer=True),
        ]
        told = []
        with BenchmarkSession(candidates, work, Plan(rounds=2, warm_up=0), CORES[:1]) as session:
            good, broken, peer = session.run(lambda *step: told.append(step))
        assert [len(t.turns) for t in (good, broken, peer)] == [2, 0, 2] and broken.error
        assert set(peer.turns[0].samples[0]) == {"inference"} and good.card["name"] == "toy"
        assert told[-1] == ("round 2 of 2", 3, 3) and len(good.load_s) == 1

    def test_model_is_reopened_if_memory_is_scarce(self, model_files, work, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.benchmark.session.is_memory_tight", lambda: True)
        with BenchmarkSession(
            [Candidate(model_files[".onnx"], 1)], work, Plan(rounds=2, warm_up=0), CORES[:1]
        ) as session:
            (trial,) = session.run()
        assert len(trial.load_s) == 2 and len(trial.turns) == 2

    def test_seconds_replace_rounds(self):
        plan = Plan(seconds=10)
        assert plan.goes_on(1, 99) and plan.goes_on(5, 9.9) and not plan.goes_on(5, 10)

    def test_memory_and_load_are_read_from_proc(self, tmp_path):
        (tmp_path / "proc").mkdir()
        assert not is_memory_tight(tmp_path) and read_load(tmp_path) is None
        (tmp_path / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 200 kB\n")
        (tmp_path / "proc/stat").write_text("cpu  100 0 100 800 0 0 0 0 0 0\n")
        assert is_memory_tight(tmp_path)
        load = read_load(tmp_path)
        assert load.all_s == pytest.approx(5 * load.busy_s)


class TestCommand:
    @pytest.fixture
    def pictures(self, tmp_path) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        cv2.imwrite(str(folder / "1.png"), np.full((64, 96, 3), (0, 0, 3), np.uint8))
        return folder

    def test_prints_and_writes(self, cli, model_files, pictures, tmp_path, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.benchmark.run.MIN_WINDOW_S", 0.2)
        outcome = cli(
            "benchmark", "--models", model_files[".onnx"], "--source", pictures, "--threads", 1, "--rounds", 2,
            "--sustained", 0.01, "--compare", model_files[".onnx"], "-o", tmp_path / "out", "--conf", 0,
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        record = json.loads((tmp_path / "out" / "benchmark.json").read_text())
        own, peer = record["rows"]
        assert own["objects"] == 3 and own["pictures"] == 2 and set(own["latency"]) > {"draw", "total"}
        assert peer["is_peer"] and peer["ratio"] is None and record["sustained"]["windows"]
        assert (tmp_path / "out" / "benchmark.md").read_text().startswith("# Benchmark")
        for words in ("End to end", "Network alone", "Size, memory and start-up", "Sustained: toy.onnx"):
            assert words in outcome.out
        assert outcome.out.splitlines()[-1].startswith("next: edge-mrcnn run --model")

    def test_throttled_board_fails_after_the_record_is_written(self, cli, model_files, pictures, tmp_path, plant_tool):
        plant_tool("vcgencmd", "echo throttled=0x50005")
        outcome = cli(
            "benchmark", "--models", model_files[".onnx"], "--source", pictures, "--threads", 1, "--rounds", 1,
            "--json", tmp_path / "b.json",
        )  # fmt: skip
        assert outcome.code == 3 and "INVALID" in outcome.out and "invalid" in outcome.err
        assert json.loads((tmp_path / "b.json").read_text())["rows"][0]["throttling"] == ["under-voltage", "throttled"]

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            ((), 2, "at least one model"),
            (("--models", "{}/none.onnx"), 1, "none.onnx"),
            (("--models", "{}/broken.onnx", "--threads", "1"), 1, "no model could be timed"),
            (("--models", "{}/broken.onnx", "--threads", "0"), 2, "--threads"),
        ],
    )
    def test_errors_are_one_line(self, cli, tmp_path, arguments, code, words):
        (tmp_path / "broken.onnx").write_bytes(b"nothing")
        outcome = cli("benchmark", *(argument.format(tmp_path) for argument in arguments))
        assert outcome.code == code and words in outcome.err and outcome.err.count("error:") == 1


class TestPeersAreOpenedAsOursAre:
    """The same number of threads, which do not spin, for files of others and for ours."""

    def test_in_the_benchmark(self, model_files):
        options = open_net(model_files[".onnx"], 1)._session.get_session_options()
        assert options.intra_op_num_threads == 1
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"

    @pytest.mark.parametrize(
        ("suffix", "maker"),
        [(".onnx", "make_session"), (".xml", "compile_plainly"), (".tflite", "make_interpreter")],
    )
    def test_in_the_comparison_with_other_models(self, suffix, maker, model_files, monkeypatch):
        from benchmarks.peers import yolo

        backend = runtimes.ModelFile(model_files[suffix]).import_backend()
        asked: list[int] = []
        make = getattr(backend, maker)
        monkeypatch.setattr(backend, maker, lambda model, threads: asked.append(threads) or make(model, threads))
        yolo.open_session(model_files[suffix], 2)
        assert asked == [2]

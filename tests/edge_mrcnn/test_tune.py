"""Tuning finds the fastest settings within the budget, stores them, and uses them on the same type of board only."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mrcnn.benchmark.rows import Benchmark, Ratio, Row
from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.measure.files import file_sha256
from edge_mrcnn.measure.latency import Percentiles
from edge_mrcnn.tune import search
from edge_mrcnn.tune.choice import FILE, Choice, read_choice, resolve_model, write_choice
from edge_mrcnn.tune.search import Attempt, TuneConfig, find_reference, to_choice, to_record, tune
from edge_mrcnn.tune.text import WIDTH, notes, to_text
from runtimes import CARD_KEY, ModelFileError, UsageError
from runtimes.board import Board, Condition, read_board
from runtimes.seal import write_seal

BOARD = Board(
    model="Raspberry Pi 5", processor="Cortex-A76", architecture="aarch64", cores=4, memory_bytes=8_000_000_000,
    features=("dotprod", "fp16", "neon"),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with one model that is never opened; the user's state is elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "best.onnx").write_bytes(b"model")
    return folder


def make_choice(folder: Path, board: Board = BOARD, **changes: object) -> Choice:
    values = {
        "file": "best.onnx", "sha256": file_sha256(folder / "best.onnx"), "options": {"threads": 2},
        "board": board.identity, "packages": {}, "created": "2026-01-01T00:00:00+00:00", **changes,
    }  # fmt: skip
    return Choice(**values)


class TestChoice:
    def test_is_found_again_on_such_a_board(self, folder):
        path = write_choice(folder, make_choice(folder))
        assert path == folder / FILE
        more_memory = replace(BOARD, memory_bytes=16_000_000_000)
        assert read_choice(folder, more_memory) == make_choice(folder)

    def test_other_board_is_refused_with_advice(self, folder):
        write_choice(folder, make_choice(folder))
        with pytest.raises(UsageError, match=r"tuned on Raspberry Pi 5, but this is Raspberry Pi 4 .*edge-mrcnn tune"):
            read_choice(folder, replace(BOARD, model="Raspberry Pi 4", processor="Cortex-A72"))

    def test_each_kind_of_board_has_its_own(self, folder):
        other = replace(BOARD, model="Jetson Orin Nano")
        write_choice(folder, make_choice(folder))
        write_choice(folder, make_choice(folder, other, options={"threads": 6}))
        write_choice(folder, make_choice(folder, options={"threads": 4}))
        assert read_choice(folder, BOARD).options == {"threads": 4}
        assert read_choice(folder, other).options == {"threads": 6}
        assert len(json.loads((folder / FILE).read_text())["choices"]) == 2

    def test_untuned_folder_says_how(self, folder):
        with pytest.raises(UsageError, match="no tuning record in this folder: run `edge-mrcnn tune --models"):
            read_choice(folder, BOARD)

    def test_changed_model_must_be_tuned_again(self, folder):
        write_choice(folder, make_choice(folder))
        (folder / "best.onnx").write_bytes(b"another")
        with pytest.raises(UsageError, match="has changed since it was tuned"):
            read_choice(folder, BOARD)

    def test_folder_that_cannot_be_written_has_its_choice_in_the_state_folder(self, folder, tmp_path):
        (folder / FILE).mkdir()  # a name that cannot be written, whoever the user is
        path = write_choice(folder, make_choice(folder))
        assert path.parent == tmp_path / "state" / "edge-mrcnn"
        assert read_choice(folder, BOARD) == make_choice(folder)

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "other", "choices": []}', '{"format": 1}'])
    def test_damaged_record_is_an_error(self, folder, text):
        (folder / FILE).write_text(text)
        with pytest.raises(ModelFileError, match="tune again"):
            read_choice(folder, BOARD)

    def test_another_release_of_the_runtime_is_a_warning(self, folder, caplog):
        write_choice(folder, make_choice(folder, packages={"onnxruntime": "0.1"}))
        with caplog.at_level(logging.WARNING):
            read_choice(folder, BOARD)
        assert "was tuned with onnxruntime 0.1" in caplog.text


class TestResolve:
    def test_file_is_taken_unchanged(self):
        assert resolve_model("any/model.onnx") == (Path("any/model.onnx"), {})
        assert resolve_model("any/model.onnx", threads=3) == (Path("any/model.onnx"), {"threads": 3})

    def test_device_is_one_of_the_options(self) -> None:
        assert resolve_model("any/model.xml", device="gpu")[1] == {"device": "gpu"}

    def test_runtime_of_a_file_must_be_its_own(self, folder):
        assert resolve_model(folder / "best.onnx", "onnx") == (folder / "best.onnx", {})
        with pytest.raises(UsageError, match=r"--runtime tflite: .*best\.onnx runs with onnx; .* a \.tflite"):
            resolve_model(folder / "best.onnx", "tflite")

    def test_folder_gives_what_was_chosen_here(self, folder):
        write_choice(folder, make_choice(folder, read_board()))
        assert resolve_model(folder) == (folder / "best.onnx", {"threads": 2})
        assert resolve_model(folder, threads=1) == (folder / "best.onnx", {"threads": 1})

    def test_named_runtime_takes_the_int8_file(self, tmp_path):
        names = {"best.onnx": "fp32", "best-int8.onnx": "int8", "older.onnx": "fp32"}
        for name, precision in names.items():
            write_model(tmp_path / name, precision=precision)
        assert resolve_model(tmp_path, "onnx") == (tmp_path / "best-int8.onnx", {})
        with pytest.raises(UsageError, match="no .tflite file"):
            resolve_model(tmp_path, "tflite")
        (tmp_path / "best-int8.onnx").unlink()
        with pytest.raises(UsageError, match="give one of best.onnx, older.onnx"):
            resolve_model(tmp_path, "onnx")


BOXES = np.array([[4, 4, 44, 44], [50, 8, 90, 60]], np.float32)
HEIGHT, WIDTH_PX, SIDE = 64, 96, 14


def write_model(path: Path, boxes: np.ndarray = BOXES, precision: str = "fp32") -> Path:
    """An ONNX file that finds these boxes in every picture."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    outputs = {
        "boxes": boxes.astype(np.float32),
        "scores": np.linspace(0.9, 0.8, len(boxes), dtype=np.float32),
        "labels": np.arange(len(boxes), dtype=np.int64),
        "masks": np.ones((len(boxes), SIDE, SIDE), np.float32),
    }
    nodes = [
        helper.make_node("Constant", [], [n], value=onnx.numpy_helper.from_array(v, n)) for n, v in outputs.items()
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("image", kinds.UINT8, (1, HEIGHT, WIDTH_PX, 3))],
        [
            helper.make_tensor_value_info(n, kinds.INT64 if n == "labels" else kinds.FLOAT, v.shape)
            for n, v in outputs.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    card = {
        "format_version": 1, "name": "constant", "classes": ["cat", "dog"], "category_ids": [1, 2],
        "input_size_hw": [HEIGHT, WIDTH_PX], "pad_rgb": [0, 0, 0], "proposals": 2, "max_detections": 2,
        "mask_size": SIDE, "mask_offset": 0.0, "score_threshold": 0.05, "iou_threshold": 0.5, "target": "onnx",
        "precision": precision,
    }  # fmt: skip
    helper.set_model_props(model, {CARD_KEY: json.dumps(card)})
    onnx.save(model, path)
    write_seal(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> CocoData:
    """Two grey pictures with the objects of `BOXES`."""
    root = tmp_path_factory.mktemp("tune data")
    (root / "images" / "val").mkdir(parents=True)
    (root / "annotations").mkdir()
    annotations = [
        {"id": 2 * i + c, "image_id": i, "category_id": c, "iscrowd": 0, "bbox": [x0, y0, x1 - x0, y1 - y0],
         "area": (x1 - x0) * (y1 - y0), "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
        for i in (1, 2) for c, (x0, y0, x1, y1) in enumerate(BOXES.tolist(), start=1)
    ]  # fmt: skip
    for i in (1, 2):
        cv2.imwrite(str(root / "images" / "val" / f"{i}.png"), np.full((HEIGHT, WIDTH_PX, 3), 90, np.uint8))
    record = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH_PX, "height": HEIGHT} for i in (1, 2)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(record))
    return load(root, "val")


@pytest.fixture
def models(tmp_path) -> dict[str, Path]:
    """An exact FP32 model, an INT8 one that is equally good, and one with wrong boxes."""
    folder = tmp_path / "models"
    folder.mkdir()
    return {
        "exact": write_model(folder / "exact.onnx"),
        "same": write_model(folder / "same-int8.onnx", precision="int8"),
        "shifted": write_model(folder / "shifted-int8.onnx", BOXES + 12, precision="int8"),
    }


@pytest.fixture
def timed(monkeypatch):
    """A function (path -> milliseconds) that replaces the time measurement; the rest of tuning is real."""

    def set_times(times: dict[Path, float]) -> None:
        def run(paths: list[Path], config: object, progress: object = None) -> Benchmark:
            rows = tuple(make_row(path, times[path], threads) for path in paths for threads in (1, 2))
            return Benchmark(
                created="", board=BOARD, device={}, packages={}, conditions=(Condition(), Condition()),
                settings={"source": "images"}, rows=rows, failures=(), others_share=None,
            )  # fmt: skip

        monkeypatch.setattr(search, "run_benchmark", run)

    return set_times


def make_row(path: Path, time_ms: float, threads: int) -> Row:
    total = time_ms / threads
    return Row(
        name=path.name, path=str(path), target="onnx", precision="int8" if "int8" in path.name else "fp32",
        threads=threads, place=f"{threads} threads", cpus=(), options={}, runs_as={}, is_peer=False,
        input_size_hw=(HEIGHT, WIDTH_PX),
        size_bytes=1, sha256="", load_s=1, first_result_s=1, peak_memory_bytes=1, pictures=1, objects=2,
        latency={"total": Percentiles(total, total, total)}, fps=1000 / total, ratio=None,
        net_ratio=Ratio(1, 1, 1), dropped=None, throttling=(),
    )  # fmt: skip


class TestSearch:
    def test_fastest_within_the_budget_is_chosen(self, models, data, timed):
        timed({models["exact"]: 90, models["same"]: 40, models["shifted"]: 20})
        tuning = tune(list(models.values()), data, TuneConfig())
        assert (tuning.chosen.row.name, tuning.chosen.row.threads) == ("same-int8.onnx", 2)
        assert [a.row.name for a in tuning.attempts[:2]] == ["shifted-int8.onnx", "same-int8.onnx"]
        assert tuning.attempts[0].accuracy.exceeds(0.005) and tuning.reference.endswith("exact.onnx")

    def test_slower_ones_are_not_evaluated_unless_asked(self, models, data, timed):
        timed({models["exact"]: 90, models["same"]: 10, models["shifted"]: 50})
        paths = list(models.values())
        few, all_ = (tune(paths, data, TuneConfig(evaluates_all=is_all)) for is_all in (False, True))
        assert [a.row.name for a in few.attempts if a.accuracy] == ["same-int8.onnx"] * 2
        assert all(a.accuracy for a in all_.attempts) and all_.chosen.row == few.chosen.row

    def test_each_model_is_evaluated_once(self, models, data, timed, monkeypatch):
        timed({models["exact"]: 90, models["same"]: 40, models["shifted"]: 20})
        told = []
        tune(list(models.values()), data, TuneConfig(evaluates_all=True), progress=lambda what, *_: told.append(what))
        assert sorted(told) == sorted(f"accuracy of {path.name}" for path in models.values() for _ in (1, 2))

    def test_nothing_within_the_budget_leaves_no_choice(self, models, data, timed):
        timed({models["shifted"]: 20})
        tuning = tune([models["shifted"]], data, TuneConfig(), reference=models["exact"])
        assert tuning.chosen is None and "No candidate is within 0.5 AP" in to_text(tuning)

    def test_fp32_is_the_reference_unless_told(self, models):
        assert find_reference([models["same"], models["exact"]]) == models["exact"]
        with pytest.raises(UsageError, match="--reference"):
            find_reference([models["same"]])

    def test_recorded_reference_counts_as_the_model_does(self, models, data, timed, tmp_path, cli):
        reference = tmp_path / "reference.json"
        assert cli("report", "reference", "--weights", models["exact"], "--data", data.path, "-o", reference).code == 0
        timed({models["same"]: 40, models["shifted"]: 20})
        tuning = tune([models["same"], models["shifted"]], data, TuneConfig(), reference=reference)
        assert tuning.chosen.row.name == "same-int8.onnx" and tuning.reference_ap == pytest.approx((1.0, 1.0))

    def test_choice_and_record_hold_what_was_found(self, models, data, timed):
        timed({models["exact"]: 90, models["same"]: 40, models["shifted"]: 20})
        tuning = tune(list(models.values()), data, TuneConfig())
        choice = to_choice(tuning, BOARD)
        assert (choice.file, choice.options) == ("same-int8.onnx", {"threads": 2})
        assert choice.figures["latency_ms"] == 20 and choice.figures["box_drop"] == 0 and choice.packages
        record = json.loads(json.dumps(to_record(tuning)))
        assert record["chosen"] == 2 or record["attempts"][record["chosen"]]["row"]["name"] == "same-int8.onnx"


class TestText:
    def test_fits_into_100_columns_and_marks_the_choice(self, models, data, timed):
        timed({models["exact"]: 900, models["same"]: 400, models["shifted"]: 200})
        text = to_text(tune(list(models.values()), data, TuneConfig()))
        assert "← chosen" in text and "too lossy" in text and "not evaluated" in text
        plain = re.sub(r"\x1b\[\d*m", "", text).splitlines()
        assert max(len(line) for line in plain if "/" not in line) <= WIDTH

    def test_wide_interval_is_said(self, models, data, timed):
        timed({models["exact"]: 90, models["same"]: 40, models["shifted"]: 20})
        tuning = tune(list(models.values()), data, TuneConfig())
        index = tuning.attempts.index(tuning.chosen)
        doubtful = replace(tuning.chosen.accuracy.box_drop, value=0.001, interval=(-0.01, 0.02))
        attempt = Attempt(tuning.chosen.row, replace(tuning.chosen.accuracy, box_drop=doubtful))
        attempts = (*tuning.attempts[:index], attempt, *tuning.attempts[index + 1 :])
        assert any("cannot tell" in note for note in notes(replace(tuning, attempts=attempts)))


class TestCommand:
    def test_choice_is_stored_and_found(self, cli, models, data):
        models["shifted"].unlink()
        folder = models["exact"].parent
        outcome = cli("tune", "--models", folder, "--data", data.path, "--threads", 1, "--rounds", 1)
        assert outcome.code == 0, outcome.err
        path, options = resolve_model(folder)
        assert path in models.values() and options == {"threads": 1}
        assert outcome.out.splitlines()[-1] == f"next: edge-mrcnn run --model {folder} --source 0"
        ran = cli("run", "--model", folder, "--source", data.images[0].path)
        assert ran.code == 0 and "1 frame in" in ran.out

    def test_choice_of_a_bundle_lies_beside_it(self, cli, models, data, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "hidden"))
        bundle = tmp_path / "out" / "same.embundle"
        bundle.parent.mkdir()
        assert cli("bundle", models["same"], "-o", bundle).code == 0
        arguments = ("--models", bundle, "--reference", models["exact"], "--data", data.path)
        outcome = cli("tune", *arguments, "--threads", 1, "--rounds", 1)
        assert f"wrote {bundle.with_name(FILE)}" in outcome.out and "hidden" not in outcome.out
        assert resolve_model(bundle.parent) == (bundle, {"threads": 1})
        assert cli("run", "--model", bundle.parent, "--source", data.images[0].path).code == 0

    def test_gate_fails_where_nothing_is_good_enough(self, cli, models, data):
        arguments = ("--models", models["shifted"], "--reference", models["exact"], "--data", data.path)
        outcome = cli("tune", *arguments, "--threads", 1, "--rounds", 1)
        assert outcome.code == 3 and "No candidate is within 0.5 AP" in outcome.err
        assert not (models["exact"].parent / FILE).exists()

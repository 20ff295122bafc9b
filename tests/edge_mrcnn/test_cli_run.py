"""`run` and `predict` on a real toy model: pictures, records, figures, and a clean end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_mrcnn.cli import predict, run
from runtimes import ImageError, SourceError, UsageError
from runtimes.errors import UnavailableError
from runtimes.sources import open_source


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images: the toy model finds three objects in one and none in the other."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, count in (("0007.png", 3), ("0008.png", 0)):
        cv2.imwrite(str(folder / name), np.full((64, 96, 3), (0, 0, count), np.uint8))
    return folder


def make_video(path: Path, frames: int) -> Path:
    """A bright video: the toy model finds all of its six objects in each frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (96, 64))
    for _ in range(frames):
        writer.write(np.full((64, 96, 3), 200, np.uint8))
    writer.release()
    return path


def invoke(command, *arguments):
    """Output of a command; its errors are raised."""
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def invoke_error(command, *arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code != 0
    return result.exception


class TestRun:
    @pytest.fixture(params=["with PyAV", "OpenCV alone"])
    def writer(self, request, monkeypatch):
        if request.param == "OpenCV alone":
            monkeypatch.setitem(sys.modules, "av", None)
        else:
            pytest.importorskip("av")

    def test_video_in_video_and_records_out(self, model_files, tmp_path, writer):
        video = make_video(tmp_path / "in.avi", 12)
        saved, lines = tmp_path / "new" / "out.mp4", tmp_path / "out.jsonl"
        arguments = ("--source", video, "--save", saved, "--json", lines, "--threads", 1, "--conf", 0)
        output = invoke(run.command, "--model", model_files[".onnx"], *arguments)
        frames = list(open_source(saved))
        assert len(frames) == 12
        assert frames[0].image.shape == (64, 96, 3)
        assert frames[-1].image.std() > 5
        records = [json.loads(line) for line in lines.read_text().splitlines()]
        assert [r["frame"] for r in records] == list(range(12))
        assert len(records[0]["detections"]) == 6
        for word in ("12 frames in", "FPS end to end", "preprocess", "inference", "postprocess", "draw"):
            assert word in output

    def test_images_in_images_out(self, model_files, folder, tmp_path):
        invoke(run.command, "--model", model_files[".onnx"], "--source", folder, "--save", tmp_path / "out")
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0007.png", "0008.png"]

    def test_several_sources_have_their_own_files_and_figures(self, model_files, tmp_path):
        lines = tmp_path / "out.jsonl"
        sources = [f"{name}={make_video(tmp_path / f'{name}.avi', 4)}" for name in ("door", "yard")]
        arguments = ("--source", sources[0], "--source", sources[1], "--save", tmp_path / "out.mp4", "--json", lines)
        output = invoke(run.command, "--model", model_files[".onnx"], *arguments)
        records = [json.loads(line) for line in lines.read_text().splitlines()]
        assert sorted((r["source"], r["frame"]) for r in records) == [
            (n, i) for n in ("door", "yard") for i in range(4)
        ]
        for name in ("door", "yard"):
            assert f"{name}: 4 received, 4 processed" in output
            assert len(list(open_source(tmp_path / f"out-{name}.mp4"))) == 4

    def test_frames_inferred_at_once_stay_in_order(self, model_files, tmp_path):
        video, lines = make_video(tmp_path / "in.avi", 9), tmp_path / "out.jsonl"
        arguments = ("--source", video, "--json", lines, "--parallel", 2, "--threads", 2)
        invoke(run.command, "--model", model_files[".onnx"], *arguments)
        assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == list(range(9))

    def test_confidence_and_frame_limit(self, model_files, tmp_path):
        video, lines = make_video(tmp_path / "in.avi", 9), tmp_path / "out.jsonl"
        arguments = ("--source", video, "--json", lines, "--conf", 0.75, "--max-frames", 4)
        assert "4 frames" in invoke(run.command, "--model", model_files[".onnx"], *arguments)
        assert [len(json.loads(line)["detections"]) for line in lines.read_text().splitlines()] == [2] * 4

    @pytest.mark.parametrize(
        ("name", "words"), [("out.gif", "expected a video file"), ("out", "expected a video file")]
    )
    def test_impossible_output_is_a_usage_error(self, model_files, tmp_path, name, words):
        video = make_video(tmp_path / "in.avi", 1)
        arguments = ("--model", model_files[".onnx"], "--source", video, "--save", tmp_path / name)
        error = invoke_error(run.command, *arguments)
        assert isinstance(error, UsageError) and words in str(error)

    def test_missing_source_is_an_error(self, model_files):
        error = invoke_error(run.command, "--model", model_files[".onnx"], "--source", "none.mp4")
        assert isinstance(error, SourceError)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupt_leaves_finished_files(self, model_files, tmp_path, number):
        video, saved, lines = make_video(tmp_path / "in.avi", 6000), tmp_path / "out.mp4", tmp_path / "out.jsonl"
        arguments = ["--model", model_files[".onnx"], "--source", video, "--save", saved, "--json", lines]
        command = [sys.executable, "-m", "edge_mrcnn", "run", *map(str, arguments), "--threads", "1"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        deadline = time.monotonic() + 60
        while not (lines.exists() and lines.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.send_signal(number)
        output, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        assert "stopped" in errors and "Traceback" not in errors
        records = [json.loads(line) for line in lines.read_text().splitlines()]
        assert 0 < len(records) < 6000
        assert abs(len(list(open_source(saved))) - len(records)) <= 1


class TestPredict:
    def test_writes_drawn_images_and_coco_results(self, model_files, folder, tmp_path):
        output = invoke(predict.command, "--model", model_files[".onnx"], "--source", folder, "-o", tmp_path / "out")
        results = json.loads((tmp_path / "out" / "predictions.json").read_text())
        assert [(r["image_id"], r["category_id"]) for r in results] == [(7, 17), (7, 18), (7, 17)]
        drawn = cv2.imread(str(tmp_path / "out" / "0007.png"))
        assert drawn.shape == (64, 96, 3) and drawn.std() > 5
        assert "0008.png: nothing found" in output
        assert output.splitlines()[-1].startswith("next: edge-mrcnn")

    def test_results_load_in_pycocotools(self, model_files, folder, tmp_path):
        coco = pytest.importorskip("pycocotools.coco")
        invoke(predict.command, "--model", model_files[".onnx"], "--source", folder, "-o", tmp_path / "out")
        truth = coco.COCO()
        truth.dataset = {"images": [{"id": 7}, {"id": 8}], "annotations": [], "categories": [{"id": 17}, {"id": 18}]}
        truth.createIndex()
        loaded = truth.loadRes(str(tmp_path / "out" / "predictions.json"))
        assert len(loaded.anns) == 3

    def test_files_of_one_name_in_two_folders_stay_apart(self, model_files, folder, tmp_path):
        other = tmp_path / "others"
        other.mkdir()
        (other / "0007.png").write_bytes((folder / "0007.png").read_bytes())
        pattern = f"{tmp_path}/*/0007.png"
        invoke(predict.command, "--model", model_files[".onnx"], "--source", pattern, "-o", tmp_path / "out")
        results = json.loads((tmp_path / "out" / "predictions.json").read_text())
        assert {r["image_id"] for r in results} == {"images/0007.png", "others/0007.png"}
        assert (tmp_path / "out" / "others" / "0007.png").is_file()

    def test_refuses_a_camera_and_a_damaged_image(self, model_files, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"\x89PNG")
        for source, kind in (("0", UsageError), (tmp_path / "broken.png", ImageError)):
            arguments = ("--model", model_files[".onnx"], "--source", source, "-o", tmp_path / "out")
            assert isinstance(invoke_error(predict.command, *arguments), kind)


class TestTheUsersFiles:
    """No output damages existing files: neither an input nor the results of an earlier run."""

    @pytest.fixture
    def video(self, tmp_path):
        return make_video(tmp_path / "clip.avi", 4)

    @pytest.fixture
    def model(self, model_files, tmp_path):
        return shutil.copy(model_files[".onnx"], tmp_path / "toy.onnx")

    @pytest.mark.parametrize("flag", ["--save", "--json", "--coco"])
    @pytest.mark.parametrize("target", ["source", "model", "link to the source", "config"])
    def test_an_output_that_is_an_input_is_wrong_usage(self, model, tmp_path, flag, target):
        video = make_video(tmp_path / "clip.mp4", 4)
        link = tmp_path / "link.mp4"
        link.symlink_to(video)
        config = tmp_path / "cam.toml"
        config.write_text(f'{flag.removeprefix("--")} = "{config}"\noverwrite = true\n')
        path = {"source": video, "model": model, "link to the source": link, "config": config}[target]
        before = path.read_bytes() if isinstance(path, Path) else Path(path).read_bytes()
        arguments = ["--model", model, "--source", video, flag, path, "--overwrite"]
        if target == "config":
            arguments = ["--model", model, "--source", video, "--config", config]
        error = invoke_error(run.command, *arguments)
        assert isinstance(error, UsageError) and error.exit_code == 2
        assert Path(path).read_bytes() == before

    @pytest.mark.parametrize("pattern", ["", "*.png"])
    def test_drawn_images_do_not_go_where_the_images_are(self, model, folder, pattern):
        before = {path: path.read_bytes() for path in folder.iterdir()}
        for command, flag in ((run.command, "--save"), (predict.command, "-o")):
            error = invoke_error(command, "--model", model, "--source", folder / pattern, flag, folder)
            assert isinstance(error, UsageError) and "this is the input" in str(error)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before

    def test_old_recordings_that_are_a_source_are_not_deleted(self, model, tmp_path):
        old = make_video(tmp_path / "out-20261121-140000.mp4", 4)
        arguments = ("--source", old, "--save", tmp_path / "out.mp4", "--split", 1, "--keep", 0.001)
        assert isinstance(invoke_error(run.command, "--model", model, *arguments), UsageError)
        assert old.exists()

    def test_second_run_numbers_its_files_with_a_message(self, model, video, tmp_path):
        names = ("out.mp4", "out.jsonl", "out.json")
        flags = ["--save", tmp_path / names[0], "--json", tmp_path / names[1], "--coco", tmp_path / names[2]]
        invoke(run.command, "--model", model, "--source", video, *flags)
        before = {name: (tmp_path / name).read_bytes() for name in names}
        output = invoke(run.command, "--model", model, "--source", video, *flags)
        for name in names:
            assert (tmp_path / name).read_bytes() == before[name]
            numbered = (tmp_path / name).with_stem("out-2")
            assert numbered.stat().st_size and f"wrote {numbered}\n" in output
        invoke(run.command, "--model", model, "--source", video, *flags, "--overwrite")
        assert not list(tmp_path.glob("out-3*"))

    def test_predict_numbers_its_folder(self, model, folder, tmp_path):
        for _ in range(2):
            output = invoke(predict.command, "--model", model, "--source", folder, "-o", tmp_path / "out")
        assert "out-2" in output and len(list((tmp_path / "out").iterdir())) == 3
        assert len(list((tmp_path / "out-2").iterdir())) == 3

    @pytest.mark.parametrize("fault", ["no such source", "no such model", "another option", "no frame"])
    def test_a_run_that_fails_makes_and_empties_nothing(self, model, video, tmp_path, fault):
        saved, lines, results = tmp_path / "rec.mp4", tmp_path / "new" / "log.jsonl", tmp_path / "coco.json"
        results.write_text("[1]")
        arguments = ["--save", saved, "--json", lines, "--coco", results, "--overwrite"]
        arguments += ["--model", tmp_path / "none.onnx" if fault == "no such model" else model]
        arguments += ["--source", {"no such source": "none.mp4", "no frame": "http://127.0.0.1:1/"}.get(fault, video)]
        arguments += ["--web", "nonsense"] if fault == "another option" else []
        invoke_error(run.command, *arguments)
        assert not saved.exists() and not lines.parent.exists() and results.read_text() == "[1]"

    def test_sources_whose_names_become_one_have_files_of_their_own(self, model, tmp_path):
        sources = [f"{name}={make_video(tmp_path / f'{i}.avi', 3)}" for i, name in enumerate(("door 1", "door-1"))]
        output = invoke(
            run.command, "--model", model, "--source", sources[0], "--source", sources[1], "--save", tmp_path / "o.mp4"
        )
        for name in ("o-door-1.mp4", "o-door-1-2.mp4"):
            assert len(list(open_source(tmp_path / name))) == 3 and name in output

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    @pytest.mark.parametrize("flag", ["--json", "--coco"])
    def test_full_disk_is_an_error_and_no_success_is_reported(self, model, video, flag):
        done = CliRunner().invoke(
            run.command, ["--model", str(model), "--source", str(video), "--conf", "0", flag, "/dev/full"]
        )
        assert done.exit_code == 1 and "4 frames in" in done.output and "wrote" not in done.output
        assert f"error: {flag} /dev/full is incomplete: " in done.output

    def test_a_port_that_is_taken_is_tried_again_or_exit_code_1(self, model, video, monkeypatch):
        monkeypatch.setattr("edge_mrcnn.live.session.RETRY_S", 0.1)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            page = ("--web", other.getsockname()[1])
            error = invoke_error(run.command, "--model", model, "--source", video, *page)
            assert isinstance(error, UnavailableError) and error.exit_code == 1
            arguments = ["--model", model, "--source", video, *page, "--wait"]
            done = CliRunner().invoke(run.command, [str(a) for a in arguments])
            assert "4 frames in" in done.output and done.exit_code == 1

    def test_a_nearly_full_disk_is_exit_code_1_and_no_end_of_a_service(self, model, video, tmp_path):
        arguments = ["--model", model, "--source", video, "--save", tmp_path / "o.mp4", "--keep-free", 10**12]
        error = invoke_error(run.command, *arguments)
        assert isinstance(error, UnavailableError) and error.exit_code == 1 and "nearly full" in str(error)
        done = CliRunner().invoke(run.command, [str(a) for a in (*arguments, "--wait")])
        assert "4 frames in" in done.output and done.exit_code == 1

"""Outputs of `predict` besides drawn images: chosen classes, JSON on standard output, labels, data sets to correct."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_mrcnn.cli import predict, run
from edge_mrcnn.data.collection import Collection, to_coco_polygons
from edge_mrcnn.data.loading import load
from edge_mrcnn.report.models import open_model
from edge_mrcnn.streaming import stream
from runtimes import Detections, FakeRuntime, UsageError
from runtimes.preprocess import read_image
from runtimes.sources import open_source

DOG = 'a "quoted" <dog> é'


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images: the toy model finds three objects in one and none in the other."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, count in (("0007.png", 3), ("0008.png", 0)):
        cv2.imwrite(str(folder / name), np.full((64, 96, 3), (0, 0, count), np.uint8))
    return folder


@pytest.fixture
def invoke(model_files, folder, tmp_path):
    """Runs `predict` with further options and returns its output."""

    def run_it(*options, source=folder, command=predict.command):
        arguments = ["--model", model_files[".onnx"], "--source", source, *options]
        if command is predict.command:
            arguments += ["-o", tmp_path / "out"]
        outcome = CliRunner().invoke(command, [str(one) for one in arguments], catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        return outcome

    return run_it


def make_video(path: Path, frames: int) -> Path:
    """A bright video: the toy model finds all of its six objects in each frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (96, 64))
    for _ in range(frames):
        writer.write(np.full((64, 96, 3), 200, np.uint8))
    writer.release()
    return path


class TestStride:
    def test_every_third_frame_of_a_video(self, invoke, tmp_path):
        source = make_video(tmp_path / "clip.avi", 8)
        outcome = invoke("--vid-stride", 3, "--json", "-", source=source, command=run.command)
        records = [json.loads(line) for line in outcome.stdout.splitlines()]
        assert [(record["frame"], record["time_s"]) for record in records] == [(0, 0.0), (3, 0.15), (6, 0.3)]
        assert "3 received, 3 processed" in outcome.stderr

    def test_recording_plays_at_the_pace_of_the_video(self, invoke, tmp_path):
        source = make_video(tmp_path / "clip.avi", 8)
        invoke("--vid-stride", 4, "--save", tmp_path / "out.mp4", source=source, command=run.command)
        times = [frame.time_s for frame in open_source(str(tmp_path / "out.mp4"))]
        assert times == pytest.approx([0, 0.2], abs=0.01)

    def test_vid_stride_needs_a_video(self, invoke):
        with pytest.raises(UsageError, match="--vid-stride 2: expected a video file among the sources"):
            invoke("--vid-stride", 2, command=run.command)


class TestChoice:
    def test_classes_by_name(self, invoke, tmp_path):
        assert "0007.png: 2 cat\n" in invoke("--classes", "cat").output
        assert "0007.png: 2 cat\n" in invoke("--exclude", DOG).output
        records = json.loads((tmp_path / "out" / "predictions.json").read_text())
        assert {record["category_name"] for record in records} == {"cat"}

    def test_unknown_class_is_wrong_usage(self, invoke):
        with pytest.raises(UsageError, match="--classes: class 'cta': the model has .*; did you mean cat"):
            invoke("--classes", "cta")

    def test_what_is_hidden_is_in_no_picture(self, invoke, folder, tmp_path):
        cv2.imwrite(str(folder / "0007.png"), np.full((64, 96, 3), (0, 0, 1), np.uint8))  # the cat alone
        invoke("--hide", "cat", "--exclude", "cat", "--coco-dataset", tmp_path / "set")
        for path in (tmp_path / "out" / "0007.png", tmp_path / "set" / "images" / "default" / "0007.png"):
            assert (read_image(path)[6:18, 10:22] == 114).all(), "where the cat is"


class TestJson:
    def test_standard_output_has_nothing_else(self, invoke):
        outcome = invoke("--json", "-", "--pixel-size", 2)
        lines = [json.loads(line) for line in outcome.stdout.splitlines()]
        assert [len(line["detections"]) for line in lines] == [3, 0]
        first = lines[0]["detections"][0]
        assert first["area_mm2"] == pytest.approx(4 * first["area"], rel=1e-3)
        assert "wrote" in outcome.stderr and "next: edge-mrcnn" in outcome.stderr

    @pytest.mark.parametrize("flag", ["--json", "--coco"])
    def test_run_writes_there_too(self, invoke, flag):
        outcome = invoke(flag, "-", command=run.command)
        if flag == "--json":
            assert [len(json.loads(line)["detections"]) for line in outcome.stdout.splitlines()] == [3, 0]
        else:
            assert len(json.loads(outcome.stdout)) == 3
        assert "2 frames in" in outcome.stderr

    def test_two_outputs_cannot_share_standard_output(self, invoke):
        with pytest.raises(UsageError, match="--json, --coco: only one of them can write to standard output"):
            invoke("--json", "-", "--coco", "-", command=run.command)

    def test_closed_pipe_ends_a_run(self, model_files):
        command = [sys.executable, "-m", "edge_mrcnn", "run", "--model", str(model_files[".onnx"])]
        command += ["--source", "synthetic", "--json", "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert json.loads(process.stdout.readline())["frame"] == 0
            process.stdout.close()
            assert process.wait(60) == 0
            told = process.stderr.read().decode()
        assert "frames in" in told and "rror" not in told


class TestYoloLabels:
    def test_lines_are_outlines_in_shares_of_the_picture(self, invoke, tmp_path):
        invoke("--save-txt", tmp_path / "labels")
        assert (tmp_path / "labels" / "0008.txt").read_text() == ""
        lines = (tmp_path / "labels" / "0007.txt").read_text().splitlines()
        assert [line.split()[0] for line in lines] == ["0", "1", "0"]
        corners = np.array(lines[0].split()[1:], float).reshape(-1, 2) * (96, 64)
        np.testing.assert_allclose(corners.min(axis=0), [4, 2], atol=2)
        np.testing.assert_allclose(corners.max(axis=0), [28, 22], atol=2)

    def test_frames_of_a_video_are_numbered(self, invoke, tmp_path):
        source = make_video(tmp_path / "clip.avi", 2)
        outcome = invoke("--save-txt", tmp_path / "labels", source=source, command=run.command)
        assert sorted(one.name for one in (tmp_path / "labels").iterdir()) == ["clip_000000.txt", "clip_000001.txt"]
        assert f"wrote {tmp_path / 'labels'}: labels of 2 pictures" in outcome.output

    def test_the_loader_reads_them(self, invoke, folder, tmp_path):
        data = tmp_path / "set"
        invoke("--save-txt", data / "labels" / "train")
        (data / "images").mkdir()
        folder.rename(data / "images" / "train")
        (data / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
        loaded = load(data, "train")
        assert [len(loaded.objects(image.id)) for image in loaded.images] == [3, 0]


class TestCocoDataSet:
    @pytest.mark.parametrize("option", [(), ("--rle",)])
    def test_is_what_the_model_found(self, invoke, tmp_path, option):
        coco = pytest.importorskip("pycocotools.coco")
        invoke("--coco-dataset", tmp_path / "set", *option)
        (path,) = (tmp_path / "set" / "annotations").iterdir()
        assert path.name == "instances_default.json"
        loaded = coco.COCO(str(path))
        assert [(image["file_name"], image["height"]) for image in loaded.dataset["images"]] == [
            ("0007.png", 64),
            ("0008.png", 64),
        ]
        rows = loaded.loadAnns(loaded.getAnnIds(imgIds=[1]))
        assert [(row["category_id"], row["iscrowd"]) for row in rows] == [(17, 0), (18, 0), (17, 0)]
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        assert all(isinstance(row["segmentation"], dict if option else list) for row in rows)
        for row in rows:
            assert loaded.annToMask(row).sum() == pytest.approx(row["area"], rel=0.1)

    def test_pictures_are_the_users_files(self, invoke, folder, tmp_path):
        invoke("--coco-dataset", tmp_path / "set")
        for path in folder.iterdir():
            assert (tmp_path / "set" / "images" / "default" / path.name).read_bytes() == path.read_bytes()

    def test_pictures_that_are_shown_turned_are_written_turned(self, invoke, tmp_path):
        image = pytest.importorskip("PIL.Image")
        picture = image.fromarray(np.full((40, 90, 3), 3, np.uint8))
        exif = picture.getexif()
        exif[0x0112] = 6
        (tmp_path / "phone").mkdir()
        picture.save(tmp_path / "phone" / "a.jpg", exif=exif)
        invoke("--coco-dataset", tmp_path / "set", source=tmp_path / "phone")
        written = tmp_path / "set" / "images" / "default" / "a.jpg"
        assert image.open(io.BytesIO(written.read_bytes())).size == (40, 90)
        record = json.loads((tmp_path / "set" / "annotations" / "instances_default.json").read_text())
        assert (record["images"][0]["width"], record["images"][0]["height"]) == (40, 90)

    def test_a_second_one_gets_a_number(self, invoke, tmp_path):
        invoke("--coco-dataset", tmp_path / "set")
        assert "set-2/annotations" in invoke("--coco-dataset", tmp_path / "set").output

    def test_holes_and_specks_are_no_polygons(self):
        ring = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float32)
        speck = np.array([[20, 20], [20.2, 20], [20.2, 20.2]], np.float32)
        polygons = to_coco_polygons([ring, 2 + 0.5 * ring[::-1], speck])
        assert [len(polygon) for polygon in polygons] == [8]

    def test_objects_without_a_mask_keep_their_box(self, tmp_path):
        found = FakeRuntime().infer(np.zeros((64, 96, 3), np.uint8))
        empty = Detections(**{**found.__getstate__(), "mask_probs": np.zeros_like(found.mask_probs)})
        collection = Collection(tmp_path, found.names, found.category_ids)
        collection.add("a.png", np.zeros((64, 96, 3), np.uint8), empty)
        collection.write()
        (row,) = json.loads(collection.path.read_text())["annotations"]
        assert row["segmentation"] == [] and row["bbox"][2] > 0


def test_corrected_predictions_are_trained_on(invoke, tmp_path, cli):
    """Predict, correct by a script as one does by hand, train."""
    pytest.importorskip("lightning", reason="pip install 'edge-mrcnn[train]'")
    invoke("--coco-dataset", tmp_path / "set")
    path = tmp_path / "set" / "annotations" / "instances_default.json"
    record = json.loads(path.read_text())
    rows = record["annotations"]
    rows[0]["category_id"] = 18  # another class
    rows[1]["segmentation"] = [[10, 10, 40, 10, 40, 40, 10, 40]]  # another outline
    rows[1]["bbox"], rows[1]["area"] = [10, 10, 30, 30], 900
    del rows[2]  # a false alarm
    rows.append({**rows[1], "id": 99, "image_id": 2, "category_id": 17})  # one that was missed
    path.write_text(json.dumps(record))
    loaded = load(tmp_path / "set", "train")
    assert [len(loaded.objects(image.id)) for image in loaded.images] == [2, 1]
    options = ["--model", "nano-dense", "--imgsz", 64, "--epochs", 1, "--workers", 0, "--device", "cpu"]
    outcome = cli("train", "--data", tmp_path / "set", *options, "--batch", 2, "-o", tmp_path / "train")
    assert outcome.code == 0, outcome.err
    assert "2 images with 3 objects" in outcome.out + outcome.err
    assert (tmp_path / "train" / "last.pt").is_file()


def test_every_verb_runs_on_tiles(invoke, model_files, folder, tmp_path):
    """The toy model's detections depend on the brightness of its input alone, so every tile has the same three."""
    cv2.imwrite(str(folder / "0007.png"), np.full((128, 192, 3), (0, 0, 3), np.uint8))
    plain = invoke().output.splitlines()[0]
    tiled = invoke("--tile", 64).output.splitlines()[0]
    assert plain != tiled and tiled.startswith("0007.png: ")
    live = invoke("--tile", 64, "--json", "-", command=run.command)
    first = json.loads(live.stdout.splitlines()[0])
    assert len(first["detections"]) == sum(int(part.split()[0]) for part in tiled.partition(": ")[2].split(", "))
    image = read_image(folder / "0007.png")
    opened = open_model(model_files[".onnx"], tile=64, threads=1)
    with opened.runtime as runtime:
        assert len(runtime.infer(image)) >= len(first["detections"]) and opened.runs_as["tiles"] == "64 px, overlap 0.2"
    with open_model(model_files[".onnx"], threads=1).runtime as runtime:
        assert len(runtime.infer(image)) == 3
    (_, found), *_ = stream(model_files[".onnx"], folder, tile=64)
    assert len(found) == len(first["detections"])

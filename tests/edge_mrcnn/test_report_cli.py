"""`edge-mrcnn report` on ONNX files made by hand: each gives the same objects for every image."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_mrcnn.cli.report import command, split_paths
from edge_mrcnn.report.footprint import measure_footprint
from edge_mrcnn.report.models import open_model
from edge_mrcnn.report.reference_file import read_reference
from runtimes import CARD_KEY, DataError, GateError, MissingFileError, ModelCard, ModelFileError, UsageError
from runtimes.seal import write_seal

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

HEIGHT, WIDTH, SIDE = 64, 96, 14
BOXES = np.array([[4, 4, 44, 44], [50, 8, 90, 60]], np.float32)


def write_model(path: Path, boxes: np.ndarray, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    from onnx import TensorProto, helper, numpy_helper

    count = len(boxes)
    outputs = {
        "boxes": boxes.astype(np.float32),
        "scores": np.linspace(0.9, 0.8, count, dtype=np.float32),
        "labels": np.arange(count, dtype=np.int64),
        "masks": np.ones((count, SIDE, SIDE), np.float32),
    }
    nodes = [helper.make_node("Constant", [], [n], value=numpy_helper.from_array(v, n)) for n, v in outputs.items()]
    types = {"labels": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, (1, HEIGHT, WIDTH, 3))],
        [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), v.shape) for n, v in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    card = ModelCard(
        name="constant", classes=classes, category_ids=tuple(range(1, len(classes) + 1)), input_size_hw=(HEIGHT, WIDTH),
        pad_rgb=(0, 0, 0), proposals=2, max_detections=2, mask_size=SIDE, mask_offset=0.0, score_threshold=0.05,
        iou_threshold=0.5, target="onnx",
    )  # fmt: skip
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    write_seal(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two grey images with the objects of `BOXES`, and three models: exact, the same again, and one shifted."""
    root = tmp_path_factory.mktemp("report")
    (root / "set" / "images" / "val").mkdir(parents=True)
    (root / "set" / "annotations").mkdir()
    annotations = []
    for image_id in (1, 2):
        cv2.imwrite(str(root / "set" / "images" / "val" / f"{image_id}.png"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
        for category, (x0, y0, x1, y1) in enumerate(BOXES.tolist(), start=1):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0,
                 "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
                 "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]]}
            )  # fmt: skip
    record = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (root / "set" / "annotations" / "instances_val.json").write_text(json.dumps(record))
    write_model(root / "float.onnx", BOXES)
    write_model(root / "same.onnx", BOXES)
    write_model(root / "shifted.onnx", BOXES + np.float32([4, 0, 4, 0]))
    return root


def run(folder: Path, *arguments: str):
    """Run the verb; an error is raised as itself."""
    data = [] if "--data" in arguments else ["--data", str(folder / "set")]
    options = ["--reference", str(folder / "float.onnx"), *data, "--threads", "1", "--no-memory"]
    result = CliRunner().invoke(command, [*options, *arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_report_is_written_and_the_table_printed(folder, tmp_path):
    models = [str(folder / "same.onnx"), str(folder / "shifted.onnx")]
    result = run(folder, "--models", *models, "-o", str(tmp_path), "--name", "Trial")
    lines = result.stdout.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["float.onnx", "same.onnx", "shifted.onnx"]
    assert lines[-1].startswith("next: edge-mrcnn run --model ")
    assert "shifted.onnx on set: 2" in result.stderr
    assert "<h1>Trial</h1>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# Trial")
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["rows"]
    assert rows[1]["scores"]["set"]["mask_drop"]["value"] == 0.0
    assert rows[2]["scores"]["set"]["mask_drop"]["value"] > 0.1


def test_gate_fails_after_the_report_is_written(folder, tmp_path):
    with pytest.raises(GateError, match="1 of 2 models dropped by more than 1 AP: shifted.onnx") as caught:
        models = f"{folder / 'same.onnx'},{folder / 'shifted.onnx'}"
        run(folder, "--models", models, "--max-drop", "0.01", "-o", str(tmp_path))
    assert caught.value.exit_code == 3
    assert (tmp_path / "report.html").is_file()


def test_gate_ends_the_command_with_code_3_and_one_line(cli, folder, tmp_path):
    options = ["--data", folder / "set", "--max-drop", 0.005, "--threads", 1, "--no-memory", "-o", tmp_path]
    outcome = cli("report", "--reference", folder / "float.onnx", "--models", folder / "shifted.onnx", *options)
    assert outcome.code == 3
    assert "error: shifted.onnx dropped by" in outcome.err.splitlines()[-1]
    assert "AP, more than 0.5 AP. The report is" in outcome.err.splitlines()[-1]


def test_gate_fails_where_the_reference_finds_nothing(folder, tmp_path, cli):
    """Two models without detections agree perfectly, which proves nothing."""
    elsewhere = BOXES[:, [0, 1, 0, 1]] + np.array([0, 0, 2, 2], np.float32)
    blind = write_model(tmp_path / "blind.onnx", elsewhere)
    same = write_model(tmp_path / "same.onnx", elsewhere)
    arguments = ["report", "--reference", blind, "--models", same, "--data", folder / "set", "--no-memory"]
    result = cli(*arguments, "--max-drop", 0.5, "-o", tmp_path / "out")
    assert result.code == 3
    assert "blind.onnx cannot be the reference: its AP is too low (box AP 0.0, mask AP 0.0)" in result.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'class="verdict bad"' in page and 'class="delta good"' not in page
    assert cli(*arguments, "-o", tmp_path / "again").code == 0  # without a gate it is said, and no more
    assert "its AP is too low" in (tmp_path / "again" / "report.md").read_text()


def test_gate_passes_within_the_limit(folder, tmp_path):
    result = run(folder, "--models", str(folder / "same.onnx"), "--max-drop", "0.01", "-o", str(tmp_path))
    assert "same.onnx is within 1 AP of float.onnx." in result.stdout


def test_extra_data_sets_are_outside_the_gate(folder, tmp_path):
    shifted, extra = str(folder / "shifted.onnx"), f"again={folder / 'set'}"
    result = run(folder, "--models", shifted, "--extra", extra, "--max-drop", "0.9", "-o", str(tmp_path))
    assert "again: mask AP" in result.stdout
    assert "On again" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((), UsageError, "at least one model"),
        (("--models", "{0}/same.onnx,{0}/same.onnx"), UsageError, "more than once"),
        (("--models", "{0}/same.onnx", "--extra", "set"), UsageError, "LABEL=DATA"),
        (("--models", "{0}/same.onnx", "--extra", "set={0}/set"), UsageError, "got set twice"),
        (("--models", "{0}/none.onnx"), MissingFileError, "none.onnx"),
        (("--models", "{0}/same.onnx", "--data", "{0}/nowhere"), MissingFileError, "nowhere"),
    ],
)
def test_errors_are_named(folder, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        run(folder, *(argument.format(folder) for argument in arguments), "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_model_of_other_classes_is_an_error(folder, tmp_path):
    other = write_model(tmp_path / "other.onnx", BOXES, classes=("horse", "cow"))
    with pytest.raises(DataError, match=r"\{horse, cow\}"):
        run(folder, "--models", str(other), "-o", str(tmp_path / "out"))


def test_memory_is_that_of_a_process_with_this_model_alone(folder):
    ballast = np.ones(1 << 28, np.uint8)  # 256 MiB of this process, which are no model's
    model = open_model(folder / "float.onnx", threads=1)
    with model.runtime:
        footprint = measure_footprint(model)
    assert 0 < footprint.libraries < footprint.peak < ballast.nbytes
    assert measure_footprint(dataclasses.replace(model, path=folder / "gone.onnx")) is None


def test_names_with_commas_are_files(tmp_path):
    odd = tmp_path / "a,b.onnx"
    odd.touch()
    assert split_paths([str(odd), "c.onnx,d.xml"]) == [odd, Path("c.onnx"), Path("d.xml")]


WITHOUT_TORCH = "import sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision'])); "


def scores_in(folder: Path) -> list[dict[str, Any]]:
    """The sentences about accuracy in a written report."""
    record = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return [row["scores"] for row in record["rows"]]


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx", BOXES, classes=("square", "disc"))


@pytest.fixture(scope="module")
def reference(toy_checkpoint, toy_data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "reference.json"
    arguments = ["reference", "--weights", toy_checkpoint, "--data", toy_data, "--device", "cpu", "-o", path]
    result = CliRunner().invoke(command, list(map(str, arguments)), standalone_mode=False)
    assert result.exception is None
    assert "mask AP" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"next: edge-mrcnn report --reference {path} --models")
    return path


class TestReferenceFile:
    def test_without_torch_it_gives_the_figures_of_the_checkpoint(
        self, toy_model, reference, toy_checkpoint, toy_data, tmp_path
    ):
        common = ["--models", str(toy_model), "--data", str(toy_data), "--threads", "1", "--no-memory"]
        with_torch = ["--reference", str(toy_checkpoint), "--device", "cpu", *common, "-o", str(tmp_path / "torch")]
        assert CliRunner().invoke(command, with_torch, standalone_mode=False).exception is None
        arguments = ["report", "--reference", str(reference), *common, "-o", str(tmp_path / "device")]
        code = f"{WITHOUT_TORCH}sys.argv[1:] = {arguments!r}; from edge_mrcnn.cli import main; main()"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment, capture_output=True)
        recorded, live = scores_in(tmp_path / "device"), scores_in(tmp_path / "torch")
        assert recorded == live
        assert recorded[1][toy_data.name]["mask_drop"]["value"] is not None

    def test_it_says_what_it_was_recorded_on(self, reference, toy_checkpoint):
        recorded = read_reference(reference)
        assert recorded.facts.name == toy_checkpoint.name
        assert recorded.facts.macs > 1e6
        assert recorded.facts.packages["torch"]
        assert json.loads(reference.read_text())["data_sets"][0]["mask"]["AP"] >= 0.0

    def compare(self, reference: Path, model: Path, data: Path, output: Path, *more: str) -> None:
        arguments = ["--reference", reference, "--models", model, "--data", data, "--no-memory", "-o", output, *more]
        result = CliRunner().invoke(command, list(map(str, arguments)), standalone_mode=False)
        if result.exception:
            raise result.exception

    def test_fewer_images_than_recorded_are_fine(self, toy_model, reference, toy_data, tmp_path):
        self.compare(reference, toy_model, toy_data, tmp_path, "--limit", "2")
        assert json.loads((tmp_path / "report.json").read_text())["data_sets"][0]["images"] == 2

    def test_other_annotations_are_refused(self, toy_model, reference, toy_data, tmp_path):
        (tmp_path / "annotations").mkdir()
        (tmp_path / "images").symlink_to(toy_data / "images")
        record = (toy_data / "annotations" / "instances_val.json").read_text()
        (tmp_path / "annotations" / "instances_val.json").write_text(record + "\n")
        with pytest.raises(DataError, match=r"recorded on other annotations \(toy data"):
            self.compare(reference, toy_model, tmp_path, tmp_path / "out")

    def test_another_image_is_refused(self, toy_model, reference, toy_data, tmp_path):
        record = json.loads(reference.read_text())
        record["data_sets"][0]["images"][1]["sha256"] = "0" * 64
        (tmp_path / "changed.json").write_text(json.dumps(record))
        with pytest.raises(DataError, match="1.png: differs from the image that"):
            self.compare(tmp_path / "changed.json", toy_model, toy_data, tmp_path / "out")

    def test_images_that_it_does_not_hold_are_refused(self, toy_model, reference, toy_data, tmp_path):
        record = json.loads(reference.read_text())
        del record["data_sets"][0]["images"][2:]
        (tmp_path / "few.json").write_text(json.dumps(record))
        with pytest.raises(DataError, match="use --limit 2"):
            self.compare(tmp_path / "few.json", toy_model, toy_data, tmp_path / "out")

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', '{"format": "edge-mrcnn-reference-1"}'])
    def test_a_damaged_file_is_one_line(self, tmp_path, text):
        (tmp_path / "reference.json").write_text(text)
        with pytest.raises(ModelFileError) as caught:
            read_reference(tmp_path / "reference.json")
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(MissingFileError, match="no such reference file"):
            read_reference(tmp_path / "none.json")

"""The command `quantize --max-drop`: tables, a file, no journal left; and its options depend on each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import runtimes
from edge_mrcnn.cli import group
from quantize.calibration import CalibrationSet


@pytest.fixture
def truth(pictures: CalibrationSet, float_files: dict[str, Path], tmp_path: Path) -> Path:
    """COCO data whose ground truth is the FP32 model's detections, as a reference for drops."""
    images, annotations = [], []
    with runtimes.load(float_files[".onnx"]) as model:
        for index, file in enumerate(pictures.files):
            images.append({"id": index, "file_name": str(file.resolve()), "width": 16, "height": 64})
            for found in model.infer(runtimes.read_image(file)).to_coco(index):
                annotations.append({**found, "id": len(annotations) + 1, "iscrowd": 0})
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def type_command(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def test_search_prints_its_tables_and_writes_the_file(
    float_files: dict[str, Path], pictures: CalibrationSet, truth: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.onnx"
    result = type_command(
        "quantize", "--model", float_files[".onnx"], "--calib", pictures.path, "--calib-images", 2,
        "--keep-float", "backbone,fpn,rpn,mask_head", "--max-drop", 1, "--data", truth, "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "changes" in result.output and "costs ms" in result.output and "taken" in result.output
    assert runtimes.read_card(output).precision == "int8"
    assert {file.name for file in tmp_path.iterdir()} == {"truth.json", "out.onnx"}


@pytest.mark.parametrize(
    "options",
    [("quantize", "--model", "m.onnx", "--max-drop", 0.1), ("export", "--weights", "w.pt", "--max-drop", 0.1),
     ("export", "--weights", "w.pt", "--max-drop", 0.1, "--data", "d.json")],
)  # fmt: skip
def test_budget_needs_data_and_int8(options: tuple[object, ...]) -> None:
    calib = ("--calib", "c") if options[0] == "quantize" else ()
    result = type_command(*options, *calib)
    assert result.exit_code != 0
    assert "--data" in str(result.exception) + result.output

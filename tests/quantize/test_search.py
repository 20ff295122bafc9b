"""`quantize --max-drop` as typed: tables, a file, no journal left; and its options are held together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import runtimes
from edge_mrcnn.cli import group
from quantize.calibration import CalibrationSet


@pytest.fixture
def truth(pictures: CalibrationSet, tmp_path: Path) -> Path:
    """COCO data that calls the middle of each picture an object."""
    shape = {"bbox": [4, 4, 8, 40], "area": 320, "iscrowd": 0, "segmentation": [[4, 4, 12, 4, 12, 44, 4, 44]]}
    files = enumerate(pictures.files)
    record = {
        "images": [{"id": i, "file_name": str(file.resolve()), "width": 16, "height": 64} for i, file in files],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, **shape} for i in range(len(pictures))],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(record))
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

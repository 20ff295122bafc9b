"""`edge-mrcnn calib`: a set from the train split or from a camera, never from what is evaluated on."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_mrcnn.cli.calib import command
from quantize.calibration import CalibrationSet, read_manifest
from runtimes.errors import DataError, UsageError


def run(*arguments: object) -> str:
    result = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_pick_writes_a_set_of_the_train_split(toy_data: Path, tmp_path: Path) -> None:
    output = run("pick", "--data", toy_data, "-n", 3, "-o", tmp_path / "set")
    entries = read_manifest(tmp_path / "set" / "manifest.json")
    assert len(CalibrationSet.load(tmp_path / "set")) == 3 and "(3 images)" in output
    assert all("instances_train.json, image " in entry.source and entry.why for entry in entries)


def test_pick_refuses_what_is_evaluated_on(toy_data: Path, tmp_path: Path) -> None:
    val = toy_data / "annotations" / "instances_val.json"
    with pytest.raises(DataError, match="training split"):
        run("pick", "--data", val, "--val", val, "-n", 2, "-o", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_pick_refuses_a_copy_under_another_name(toy_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(toy_data, tmp_path / "data")
    trained, evaluated = sorted((data / "images/train").iterdir()), sorted((data / "images/val").iterdir())
    shutil.copyfile(trained[0], evaluated[-1])
    with pytest.raises(DataError, match=trained[0].name):
        run("pick", "--data", data, "-n", len(trained), "-o", tmp_path / "set")


def test_two_sets_are_not_mixed(toy_data: Path, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("kept")
    with pytest.raises(UsageError, match="empty or new folder"):
        run("pick", "--data", toy_data, "-o", tmp_path)


def test_capture_records_a_source(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, level in enumerate((20, 120, 121, 250)):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 48, 3), level, np.uint8))
    output = run("capture", "--source", folder, "--every", 0, "--novelty", 0.1, "-o", tmp_path / "set")
    assert "(3 images; 1 frame skipped as too similar to kept ones)" in output
    assert len(CalibrationSet.load(tmp_path / "set")) == 3

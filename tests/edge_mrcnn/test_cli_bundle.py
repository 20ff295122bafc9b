"""`edge-mrcnn bundle`: one file with everything, which every verb takes as a model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import runtimes
from quantize.calibration import describe_image, write_manifest
from runtimes import golden


@pytest.fixture
def model(model_files, tmp_path, monkeypatch):
    """A model with golden tensors."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "toy.onnx"
    shutil.copy(model_files[".onnx"], path)
    picture = np.full((1, 64, 96, 3), 3, np.uint8)
    with runtimes.load(path) as runtime:
        golden.attach(path, golden.make_record(runtime, [("three", picture, runtime.run(picture))]))
    return path


@pytest.fixture
def report(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.json").write_text("{}")
    (folder / "report.html").write_text("<p>fine</p>")
    return folder


def test_bundle_holds_all_and_runs_everywhere(cli, model, report, toy_data, tmp_path):
    pictures = toy_data / "images" / "val"
    entry = describe_image(pictures, "0.png", source="made up", licence="CC0", why="a square")
    (tmp_path / "calib").mkdir()
    manifest = write_manifest(tmp_path / "calib", [entry])
    file = tmp_path / "all.embundle"
    made = cli("bundle", model, "--report", report, "--calib", manifest, "-o", file)
    assert (made.code, made.err) == (0, "")
    shown = cli("bundle", "inspect", file).out
    for name in ("model/toy.onnx", "card.json", "golden.npz", "calibration/manifest.json", "report/report.html"):
        assert name in shown
    assert "all hashes match" in shown
    for arguments in (["inspect", file], ["verify", file], ["run", "--model", file, "--source", pictures]):
        assert cli(*arguments).code == 0


def test_without_options_it_lies_beside_the_model(cli, model):
    assert cli("bundle", model).out.startswith(f"wrote {model.with_suffix('.embundle')}: 3 files")


def test_refusals_are_one_line(cli, model, tmp_path):
    for arguments in (
        [tmp_path / "none.onnx"],
        [model, "--report", tmp_path],
        [model, "--calib", model],
        [model, "-o", "x.zip"],
        ["inspect", model],
    ):
        outcome = cli("bundle", *arguments)
        assert outcome.code in (1, 2)
        assert outcome.err.count("\n") == 1


def test_help_shows_both(cli):
    assert "inspect" in cli("bundle", "--help").out
    assert "--calib" in cli("bundle", "make", "--help").out


def test_card_is_readable_without_tools(cli, model, tmp_path):
    from runtimes.bundle import read_entry

    cli("bundle", model)
    assert json.loads(read_entry(model.with_suffix(".embundle"), "card.json"))["name"] == "toy"

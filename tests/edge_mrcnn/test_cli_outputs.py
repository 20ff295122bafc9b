"""No verb overwrites its input, or an existing file without --overwrite."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def model(model_files, tmp_path):
    """A copy of the toy ONNX file in a folder of its own."""
    folder = tmp_path / "models"
    folder.mkdir()
    return shutil.copy(model_files[".onnx"], folder / "toy.onnx")


@pytest.mark.parametrize(
    "words",
    [
        "quantize --model {model} --calib {data} -o {model}",
        "report --reference {model} --models {model} --data {data} -o {data}",
        "report reference --weights {model} --data {data} -o {model}",
        "benchmark --models {model} --json {model}",
        "train --data {data} -o {data}",
        "prune --weights {model} --data {data} --macs 0.5 -o {data}",
        "data check {data} -o {data}",
        "data check {data} --fix {data}",
    ],
)
def test_output_that_is_an_input_is_wrong_usage_and_nothing_is_touched(cli, words, model, toy_data):
    before = {file: file.stat().st_mtime_ns for file in [model, *toy_data.rglob("*")]}
    result = cli(*(word.format(model=model, data=toy_data) for word in words.split()))
    assert result.code == 2
    assert "this is the input" in result.err
    assert before == {file: file.stat().st_mtime_ns for file in [model, *toy_data.rglob("*")]}


def test_bundle_is_not_replaced_unasked(cli, model):
    assert cli("bundle", "make", model).code == 0
    first = model.with_suffix(".embundle").read_bytes()
    again = cli("bundle", "make", model)
    assert "toy-2.embundle instead (--overwrite replaces it)" in again.err
    assert model.with_suffix(".embundle").read_bytes() == first and (model.parent / "toy-2.embundle").is_file()
    assert "toy-2" not in cli("bundle", "make", model, "--overwrite").out


def test_second_training_has_a_folder_of_its_own(cli, toy_data, tmp_path):
    words = ["train", "--data", toy_data, "--model", "nano-dense", "--imgsz", 64, "--epochs", 1, "--batch", 2]
    words += ["--workers", 0, "--device", "cpu", "-o", tmp_path / "run"]
    assert cli(*words).code == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    again = cli(*words)
    assert again.code == 0 and f"wrote {tmp_path / 'run-2' / 'best.pt'}" in again.out
    assert before == {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}


def test_second_export_keeps_the_files_of_the_first(cli, toy_checkpoint, tmp_path):
    words = ["export", "--weights", toy_checkpoint, "--target", "onnx", "-o", tmp_path]
    assert cli(*words).code == 0
    (first,) = tmp_path.glob("*.onnx")
    content = first.read_bytes()
    assert cli(*words).code == 0
    assert first.read_bytes() == content
    assert sorted(file.stem for file in tmp_path.glob("*.onnx")) == [first.stem, f"{first.stem}-2"]
    assert cli(*words, "--overwrite").code == 0
    assert len(list(tmp_path.glob("*.onnx"))) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("scenes", "-o", "-"),
        ("data", "check", "{data}", "-o", "-"),
        ("quantize", "--model", "{model}", "--calib", "{data}", "-o", "-"),
        ("benchmark", "--models", "{model}", "--json", "-"),
    ],
)
def test_no_file_is_called_like_standard_output(cli, words, model, toy_data, monkeypatch):
    monkeypatch.chdir(model.parent)
    outcome = cli(*(word.format(model=model, data=toy_data) for word in words))
    assert outcome.code == 2 and "-: expected a file or folder" in outcome.err
    assert not Path("-").exists()


def test_folder_of_a_training_names_the_checkpoint_in_it(cli, tmp_path):
    (tmp_path / "best.pt").write_bytes(b"")
    outcome = cli("export", "--weights", tmp_path)
    assert outcome.code == 1 and f"is a folder; the checkpoint in it is {tmp_path / 'best.pt'}" in outcome.err

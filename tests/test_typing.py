"""A user's script is type-checked against the three installed packages."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="pip install mypy")

RIGHT = """
import edge_mrcnn
import quantize
import runtimes
from edge_mrcnn.config import TrainConfig

with runtimes.load("model.onnx", threads=1) as model:
    print(model.card.classes)
    found = model.infer(runtimes.read_image("street.jpg"))
    print(found.boxes.conf, found.masks.rle)

for _frame, detections in edge_mrcnn.stream("model.tflite", source=0):
    print(len(detections))

quantize.QuantizeConfig(images=3)
TrainConfig(epochs=3)
"""
WRONG = {  # a line that goes behind the right script -> what mypy says of it
    "model.infers": '"Runtime" has no attribute "infers"',
    "found.boxs": '"Detections" has no attribute "boxs"',
    "detections.boxs": '"Detections" has no attribute "boxs"',
    "model.card.clases": '"ModelCard" has no attribute "clases"',
    "runtimes.lode": 'Module has no attribute "lode"',
    "edge_mrcnn.steam": 'Module has no attribute "steam"',
    "quantize.quantise": 'Module has no attribute "quantise"',
    "quantize.QuantizeConfig(images='3')": 'Argument "images" to "QuantizeConfig" has incompatible type',
    "TrainConfig(epoch=3)": 'Unexpected keyword argument "epoch" for "TrainConfig"',
}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds our wheel and nothing else."""
    folder = tmp_path_factory.mktemp("user")
    venv.create(folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return folder / "bin" / "python"


def check_types(installed: Path, script: str, folder: Path) -> list[str]:
    """mypy's messages about a script, line by line, away from this checkout and its settings."""
    path = folder / "script.py"
    path.write_text(script)
    options = ["--python-executable", installed, "--config-file", "", "--cache-dir", folder / "cache", "--no-pretty"]
    command = [sys.executable, "-m", "mypy", *options, path]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder)
    assert result.returncode in (0, 1), result.stderr
    return result.stdout.splitlines()[:-1]  # the last line is the sum


def test_right_script_passes(installed, tmp_path):
    assert check_types(installed, RIGHT, tmp_path) == []


def test_each_wrong_line_is_found(installed, tmp_path):
    script = RIGHT + "\n".join(WRONG)
    first = RIGHT.count("\n") + 1
    said = check_types(installed, script, tmp_path)
    lines = [f"script.py:{first + index}: error: {message}" for index, message in enumerate(WRONG.values())]
    assert len(said) == len(lines)
    for found, expected in zip(said, lines, strict=True):
        assert found.startswith(expected)

"""A runtime is one module and one line in the table of each job: here a fourth one is added to a copy of the source."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.formats import FORMATS

pytest.importorskip("pycocotools", reason="needs edge-mrcnn[report]")
ROOT = Path(__file__).parents[2]
PACKAGES = ("runtimes", "quantize", "edge_mrcnn")
LINES = {  # file -> the line before, the new line
    "runtimes/formats/__init__.py": ('"tflite": TFLITE,\n', '    "paint": __import__("paint_format").PAINT,\n'),
    "quantize/__init__.py": (':TfliteQuantizer",\n', '    "paint": "paint_format:PaintQuantizer",\n'),
    "edge_mrcnn/inspection/__init__.py": (
        'tflite_file:read_operators",\n', '    "paint": "paint_format:read_operators",\n',
    ),
}  # fmt: skip
RECORD = {"colours": [[220.2, 60.0, 200.0], [90.0, 219.9, 40.0]]}
DRIVER = """
import sys
from pathlib import Path
import numpy as np
import runtimes
from edge_mrcnn.cli import main
from runtimes import golden, read_image

model, picture = Path(sys.argv[1]), sys.argv[2]
image = read_image(picture)
file = runtimes.ModelFile(model)
card = runtimes.FakeRuntime().card.updated(
    name="painted", classes=("square", "disc"), category_ids=(3, 7), input_size_hw=(96, 128), target="paint")
file.write_card(card)
with runtimes.load(model, threads=1, near=50) as runtime:
    assert len(runtime.infer(image)) == 2 and len(runtime.lanes(3)) == 3, runtime.infer(image)
    tensor = image[None]
    golden.attach(model, golden.make_record(runtime, [("two", tensor, runtime.run(tensor))]))
for wrong in ({"near": -1}, {"nearly": 1}, {"device": "gpu"}, {"precision": "f32"}):
    try:
        runtimes.load(model, **wrong)
    except runtimes.UsageError as error:
        print(error)
for line in sys.stdin.read().splitlines():
    sys.argv = ["edge-mrcnn", *line.split("\\t")]
    try:
        main()
    except SystemExit as done:
        assert not done.code, (line, done.code)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the three packages with one module more and a line in each table."""
    folder = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests/helpers/paint_format.py", folder)
    for name, (before, line) in LINES.items():
        text = (folder / name).read_text()
        assert text.count(before) == 1, name
        (folder / name).write_text(text.replace(before, before + line))
    return folder


def test_every_command_takes_a_fourth_runtime(source: Path, toy_data: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    model, small, bundle = models / "a.paint", models / "a-int8.paint", tmp_path / "b.embundle"
    model.write_text(json.dumps(RECORD))
    pictures = toy_data / "images" / "val"
    verbs = [
        ("verify", model),
        ("quantize", "--model", model, "--calib", pictures),
        ("inspect", model),
        ("inspect", small),
        ("bundle", model, "-o", bundle),
        ("verify", bundle),
        ("benchmark", "--models", model, bundle, "--threads", 1, "--rounds", 1, "--pictures", 2),
        ("tune", "--models", models, "--data", toy_data, "--threads", 1, "--rounds", 1, "--max-drop", 1),
        ("run", "--model", models, "--source", pictures, "--parallel", 2),
        ("run", "--model", models, "--runtime", "paint", "--source", pictures),
        ("quantize", "--model", bundle, "--calib", pictures),
        ("predict", "--model", bundle, "--source", pictures, "-o", tmp_path / "out"),
        ("report", "--reference", model, "--models", bundle, "--data", toy_data, "-o", tmp_path / "report"),
    ]
    typed = "\n".join("\t".join(map(str, verb)) for verb in verbs)
    out = drive(source, tmp_path, model, pictures / "0.png", typed)
    for words in (
        "near -1: expected at least 0",
        "did you mean near",
        ".paint files run with Paint, on cpu",
        "precision: is an option of OpenVINO",
        "checked on 2 detections",
        f"wrote {small}",
        f"wrote {tmp_path / 'b-int8.paint'}",
        "0.png: 1 square, 1 disc",
        "a.paint: painted, paint fp32",
        "100.0% of the weights in INT8",
        f"wrote {models / 'tuned.json'}",
        "3 frames in",
        "report.html",
    ):
        assert words in out


def drive(source: Path, folder: Path, model: Path, picture: Path, verbs: str) -> str:
    """The output of the commands, run one after the other with the copied source."""
    environment = {
        **os.environ, "PYTHONPATH": str(source), "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_STATE_HOME": str(folder / "state"),
    }  # fmt: skip
    command = [sys.executable, "-c", DRIVER, str(model), str(picture)]
    done = subprocess.run(command, input=verbs, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


OF_PACKAGES = ("edge_mrcnn/doctor/rules.py", "edge_mrcnn/doctor/wheels.py")
"""The known packages, the same for every runtime."""
DOT = {suffix for format_ in FORMATS.values() for suffix in (format_.suffix, *format_.companions)}
NAMED = {package for format_ in FORMATS.values() for package in format_.packages if package != format_.name}


def read_sources(package: str) -> dict[str, set[object]]:
    """Each source file of a package, but those of formats, and the constants in it."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("runtimes/formats/"):
            tree = ast.walk(ast.parse(path.read_text()))
            found[name] = {node.value for node in tree if isinstance(node, ast.Constant)}
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_suffix_stands_in_its_format_alone(package: str) -> None:
    found = {name: texts & DOT for name, texts in read_sources(package).items()}
    assert {name: suffixes for name, suffixes in found.items() if suffixes} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_named_by_its_format_alone(package: str) -> None:
    found = {name: texts & NAMED for name, texts in read_sources(package).items() if name not in OF_PACKAGES}
    assert {name: packages for name, packages in found.items() if packages} == {}

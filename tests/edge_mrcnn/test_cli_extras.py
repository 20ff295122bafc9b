"""Without torch, every verb names the missing extra, and does not call the data faulty."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_mrcnn.cli.extras import EXTRAS, explain_missing

ROOT = Path(__file__).parents[2]
HEAVY = [module for extra in ("train", "prune", "export", "report", "demo") for module in EXTRAS[extra]]
DEVICE = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(HEAVY)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from edge_mrcnn.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["models"], "train"),
        (["train", "--data", "{data}", "--model", "nano"], "train"),
        (["prune", "--weights", "best.pt", "--data", "{data}", "--macs", "0.5"], "prune"),
        (["export", "--weights", "best.pt"], "export"),
        (["calib", "pick", "--data", "{data}", "-o", "{folder}/calib"], "report"),
        (["data", "check", "{data}"], "report"),
        (["demo", "-o", "{folder}/demo"], "all"),
        (["report", "--reference", "best.pt", "--models", "best.onnx", "--data", "{data}"], "report"),
    ],
)
def test_verb_says_what_to_install(arguments, extra, toy_data, tmp_path):
    words = [word.format(data=toy_data, folder=tmp_path) for word in arguments]
    result = subprocess.run(
        [sys.executable, "-c", DEVICE, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ") and f"pip install 'edge-mrcnn[{extra}]'" in line


def test_help_of_every_verb_needs_none_of_them(tmp_path):
    from edge_mrcnn.cli import COMMANDS

    code = DEVICE.replace(
        "main()\n",
        f"import click\nfrom edge_mrcnn.cli import group\n"
        f"for verb in {list(COMMANDS)!r}:\n    group.get_command(click.Context(group), verb)\n",
    ).replace("from edge_mrcnn.cli import main", "")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["data", "check", "{data}"], "jinja2"),
        (["report", "--reference", "best.pt", "--models", "best.onnx", "--data", "{data}"], "jinja2"),
    ],
)
def test_what_the_last_step_needs_is_missed_before_the_first(arguments, module, cli, toy_data, monkeypatch, tmp_path):
    monkeypatch.setattr("edge_mrcnn.cli.extras.find_spec", lambda name: None if name == module else object())
    monkeypatch.chdir(tmp_path)
    outcome = cli(*(word.format(data=toy_data) for word in arguments))
    assert outcome.code == 1 and f"needs {module}, which is not installed" in outcome.err
    assert not outcome.out and not list(tmp_path.iterdir())


def test_package_that_is_broken_is_one_line(cli, monkeypatch):
    def fail(*_):
        raise ImportError("libGL.so.1: cannot open shared object file", name="cv2")

    monkeypatch.setattr("edge_mrcnn.cli.importlib.import_module", fail)
    outcome = cli("doctor")
    assert outcome.code == 1 and "Traceback" not in outcome.err
    assert "cv2: is installed but cannot be imported: libGL.so.1" in outcome.err


def test_verb_of_linux_says_so_elsewhere():
    error = ModuleNotFoundError("No module named 'grp'", name="grp")
    assert explain_missing(error, "service") == "service needs Linux: this Python has no module named grp"

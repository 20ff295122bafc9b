"""On a device, which has no torch, every verb says what it lacks; the user's data is never blamed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_mrcnn.cli.extras import EXTRAS

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

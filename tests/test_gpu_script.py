"""benchmarks/gpu.sh on the CPU with tiny settings, so that no minute of a GPU is spent on finding faults."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEVICE": "cpu", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("gpu")
    ran = run_script("speed", folder)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return (folder / "SPEED.md").read_text()


def test_both_loops_are_timed(record) -> None:
    assert re.search(r"^\| torchvision \| [\d.]+ \|", record, re.MULTILINE)
    assert re.search(r"^\| edge-mrcnn \| [\d.]+ \|", record, re.MULTILINE)


def test_resumed_training_has_the_losses_of_a_whole_one(record) -> None:
    (line,) = [line for line in record.splitlines() if line.startswith("resumed: ")]
    broken, whole = re.findall(r"[\d.]+, [\d.]+", line)
    assert broken == whole


def test_unknown_part_is_named(tmp_path) -> None:
    ran = run_script("sped", tmp_path)
    assert ran.returncode == 2
    assert "sped: expected speed or people" in ran.stderr

"""A full disk ends a training with one line; earlier checkpoints stay intact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from edge_mrcnn.cli import main
main()
"""


def test_training_on_a_full_disk_ends_in_one_line(toy_data, tmp_path):
    words = ["train", "--data", toy_data, "--model", "nano-dense", "--imgsz", "64", "--epochs", "1", "--batch", "2"]
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, words), "--workers", "0", "-o", tmp_path / "run"],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "cannot be written" in result.stderr or "File too large" in result.stderr
    left = [file.name for file in (tmp_path / "run").iterdir() if file.suffix in (".pt", ".partial", ".ckpt")]
    assert left == []

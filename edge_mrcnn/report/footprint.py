"""Peak memory of a model: a process of its own opens it and runs it, so that one model is not charged with another's.

python -m edge_mrcnn.report.footprint model.onnx
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

IMAGES = 3
"""Images that the process runs: memory that is taken lazily is there after the second."""
TIME_LIMIT_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Resident memory at its highest, in bytes."""

    peak: int
    """Of the whole process: Python, numpy, OpenCV, the SDK and the model."""
    libraries: int
    """Of the same process before it opens the model and its SDK."""


def measure_footprint(path: Path, *, device: str = "auto", threads: int | None = None) -> Footprint | None:
    """Open and run a model in a process of its own.

    Args:
        path: A model file or checkpoint.
        device: Of a checkpoint, as in `open_model`.
        threads: CPU threads; each runtime's own choice if None.

    Returns:
        None if the process fails, or the system does not tell: a report can do without.
    """
    arguments = [str(path), device, *([str(threads)] if threads else [])]
    command = [sys.executable, "-W", "ignore", "-m", "edge_mrcnn.report.footprint", *arguments]
    root = Path(__file__).parents[2]
    path_list = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            command, capture_output=True, check=True, timeout=TIME_LIMIT_S, env={**os.environ, "PYTHONPATH": path_list}
        )
        return Footprint(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, OSError, ValueError, IndexError, TypeError):
        return None


def peak_memory() -> int:
    """Most bytes that this process held at one time; 0 if the system does not tell.

    Not `getrusage`, whose figure a process takes over from the one that started it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def _measure_here(path: str, device: str = "auto", threads: str | None = None) -> Footprint:
    """What the started process does."""
    from edge_mrcnn.report.models import open_model

    before = peak_memory()
    model = open_model(path, device=device, threads=int(threads) if threads else None)
    height, width = model.runtime.card.input_size_hw
    rng = np.random.default_rng(0)
    for _ in range(IMAGES):
        model.runtime.infer(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return Footprint(peak=peak_memory(), libraries=before)


if __name__ == "__main__":
    sys.stdout.write(f"{json.dumps(asdict(_measure_here(*sys.argv[1:])))}\n")

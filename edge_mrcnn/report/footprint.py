"""Peak memory of a model, measured in a process of its own, so that it does not include other models.

python -m edge_mrcnn.report.footprint model.onnx
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_mrcnn.benchmark.child import ROOT
from edge_mrcnn.benchmark.worker import peak_memory

if TYPE_CHECKING:
    from edge_mrcnn.report.models import Model

IMAGES = 3
"""Number of images that the process runs: lazily allocated memory is in use after the second."""
TIME_LIMIT_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Peak resident memory, in bytes."""

    peak: int
    """Of the whole process: Python, numpy, OpenCV, the SDK and the model."""
    libraries: int
    """Of the same process before it opens the model and its SDK."""


def measure_footprint(model: Model) -> Footprint | None:
    """Open and run a model in a process of its own.

    Returns:
        None if the process fails, or the system does not report it; a report works without.
    """
    device = "cpu" if model.device == "cpu" else "cuda"
    command = [sys.executable, "-W", "ignore", "-m", "edge_mrcnn.report.footprint", str(model.path), device]
    threads = model.runs_as.get("threads", "")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [*command, *([threads] if threads.isdecimal() else [])],
            capture_output=True, check=True, timeout=TIME_LIMIT_S, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        return Footprint(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, OSError, ValueError, IndexError, TypeError):
        return None


def _measure_here(path: str, device: str = "auto", threads: str | None = None) -> Footprint:
    """Main function of the started process."""
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

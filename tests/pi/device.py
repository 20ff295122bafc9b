"""Runs on the device: imports the packages of one extra, runs commands and models, and writes the results.

python device.py ANSWERS.npz 'JSON of {"modules": [...], "commands": [[...], ...], "models": [...]}' > outcome.json

One process does it all: under emulation an import of OpenCV alone takes seconds.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def main(answers: str, task: str) -> None:
    """Do the task and print the outcome as JSON."""
    asked = json.loads(task)
    outcome: dict[str, Any] = {"machine": platform.machine(), "python": platform.python_version()}
    outcome["modules"] = {name: describe_import(name) for name in asked["modules"]}
    outcome["commands"] = [run_command(arguments) for arguments in asked["commands"]]
    tensors: dict[str, np.ndarray] = {}
    outcome["models"] = {Path(path).name: ask_model(path, tensors) for path in asked["models"]}
    np.savez(answers, **tensors)
    outcome["torch"] = "torch" in sys.modules
    print(json.dumps(outcome))


def describe_import(name: str) -> str:
    """Version of a package that imports, or the error."""
    try:
        return str(getattr(importlib.import_module(name), "__version__", "imported"))
    except ImportError as error:
        return f"error: {error}"


def run_command(arguments: list[str]) -> dict[str, Any]:
    """Type `edge-mrcnn ARGUMENTS` in this process."""
    from edge_mrcnn.cli import main as edge_mrcnn

    sys.argv = ["edge-mrcnn", *arguments]
    out, err, code, start = io.StringIO(), io.StringIO(), 0, time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            edge_mrcnn()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        except Exception:
            code = -1
            traceback.print_exc()
    seconds = round(time.monotonic() - start, 1)
    return {"arguments": arguments, "code": code, "out": out.getvalue(), "err": err.getvalue(), "seconds": seconds}


def ask_model(path: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Run a model on each trial picture and keep its raw outputs as MODEL/PICTURE/FIELD; or the error."""
    import runtimes

    start = time.monotonic()
    try:
        with runtimes.load(path, threads=2) as runtime:
            for index, picture in enumerate(trial_pictures(runtime.card.input_size_hw)):
                for field, values in runtime.run(picture[None])._asdict().items():
                    tensors[f"{Path(path).name}/{index}/{field}"] = np.array(values)
            how = runtime.describe()
    except runtimes.EdgeError as error:
        return {"error": str(error)}
    return {"how": how, "seconds": round(time.monotonic() - start, 1)}


def trial_pictures(size_hw: tuple[int, int]) -> Iterator[np.ndarray]:
    """Gray, and coloured squares of three sizes: (H, W, 3) uint8."""
    yield np.full((*size_hw, 3), 128, np.uint8)
    for cell in (4, 8, 16):
        rng = np.random.default_rng(cell)
        squares = rng.integers(0, 256, (size_hw[0] // cell, size_hw[1] // cell, 3), dtype=np.uint8)
        yield squares.repeat(cell, 0).repeat(cell, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])

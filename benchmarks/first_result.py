"""Measure the time to the first result, and the memory of a runner.

    python benchmarks/first_result.py models/best-int8.onnx models/best-int8.xml models/best-int8.tflite

Each file is opened in processes of their own, in turn, with one thread, and finds objects in one 1080p frame. Seconds
are of the processor: from the start of Python, and from `runtimes.load`, which imports the SDK. OpenVINO files are
opened once more with a `cache_dir` that the first of these processes has filled.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from runtimes.formats import files_of, format_of

sys.path.insert(0, str(Path(__file__).parents[1]))


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", default=5, show_default=True, help="Processes of each file.")
@click.option("--alone", hidden=True, help="Be such a process, with these options of `runtimes.load`.")
def main(files: tuple[Path, ...], rounds: int, alone: str | None) -> None:
    """Print a table."""
    if alone is not None:
        click.echo(json.dumps(open_once(files[0], json.loads(alone))))
        return
    with TemporaryDirectory() as cache:
        ways: list[tuple[Path, dict[str, str]]] = []
        for file in files:
            ways.append((file, {}))
            if format_of(file).name == "openvino":
                ways.append((file, {"cache_dir": cache}))
        turns = [[start_process(*way) for way in ways] for _ in range(rounds + 1)][1:]
    click.echo("| file | file MB | peak memory MB | s from start | s from load |")
    click.echo("|---|---:|---:|---:|---:|")
    for (file, options), *found in zip(ways, *turns, strict=True):
        total, load, peak = (statistics.median(column) for column in zip(*found, strict=True))
        size = sum(part.stat().st_size for part in files_of(file)) / 1e6
        name = f"{file.name}, cached" if options else file.name
        click.echo(f"| {name} | {size:.1f} | {peak:.0f} | {total:.2f} | {load:.2f} |")


def start_process(file: Path, options: dict[str, str]) -> tuple[float, float, float]:
    """The output of `open_once` in a process of its own."""
    command = [sys.executable, __file__, str(file), "--alone", json.dumps(options)]
    return tuple(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def open_once(file: Path, options: dict[str, str]) -> tuple[float, float, float]:
    """Processor seconds of this process and of the first result, and its peak memory in MB."""
    import cv2
    import numpy as np

    import runtimes
    from edge_mrcnn.benchmark.worker import peak_memory

    cv2.setNumThreads(1)
    begin = time.process_time()
    with runtimes.load(file, threads=1, **options) as model:
        model.infer(np.full((1080, 1920, 3), 114, np.uint8))
        end = time.process_time()
    return end, end - begin, peak_memory() / 2**20


if __name__ == "__main__":
    main()

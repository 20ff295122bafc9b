"""Throughput against latency: one frame on all cores, several frames in flight, more threads than cores.

    python benchmarks/in_flight.py models/best-int8.onnx models/best-int8.xml models/best-int8.tflite

Each frame in flight has a copy of the model, or a stream of one OpenVINO model, and a Python thread of its own; SDKs
compute without holding the interpreter's lock. A frame's latency is that of `infer`, from pixels to detections. Ways
take turns of a second each.

Several cameras on one model are one frame in flight: each camera gets its share of the frames, and in the worst case
waits for one frame of each other camera; the last column says so for four.

Processor time is that of all threads of a frame: what a way takes from whatever else runs. ONNX Runtime's threads can
spin while they wait, which is off by default (`spinning` of `runtimes.load`): ways of several threads show both.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

import runtimes
from runtimes.sources.synthetic import MovingShapes

CAMERAS = 4


@dataclass
class Way:
    """A number of frames in flight, each with a number of threads."""

    file: Path
    frames: int
    threads: int
    spinning: bool = False
    latencies_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    processor_s: float = 0.0

    def __post_init__(self) -> None:
        options = {"spinning": True} if self.spinning else {}
        model = runtimes.load(self.file, threads=self.frames * self.threads, **options)
        self._models = model.lanes(self.frames)

    def run(self, image: np.ndarray, duration_s: float) -> None:
        """Keep all models busy for a while."""
        start, processor = time.perf_counter(), time.process_time()
        workers = [threading.Thread(target=self._repeat, args=(m, image, start + duration_s)) for m in self._models]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.wall_s += time.perf_counter() - start
        self.processor_s += time.process_time() - processor

    def _repeat(self, model: runtimes.Runtime, image: np.ndarray, end: float) -> None:
        while (start := time.perf_counter()) < end:
            model.infer(image)
            self.latencies_s.append(time.perf_counter() - start)

    def row(self) -> str:
        """A line of the table."""
        rate, latency_ms = len(self.latencies_s) / self.wall_s, 1e3 * statistics.median(self.latencies_s)
        spent_ms = 1e3 * self.processor_s / len(self.latencies_s)
        worst = f"{CAMERAS * latency_ms:.0f}" if self.frames == 1 else ""
        name = self.file.name + ", spinning" * self.spinning
        return f"| {name} | {self.frames} | {self.threads} | {rate:.1f} | {latency_ms:.1f} | {spent_ms:.1f} | {worst} |"


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", default=5, show_default=True, help="Turns of each way.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of a turn.")
def main(files: tuple[Path, ...], rounds: int, seconds: float) -> None:
    """Print a table of frames per second and milliseconds."""
    cores = len(os.sched_getaffinity(0))
    ways = [way for file in files for way in choose_ways(file, cores)]
    image = MovingShapes((1080, 1920), 0).draw(0.0)
    for _ in range(rounds):
        for way in ways:
            way.run(image, seconds)
    click.echo(
        f"| file, {cores} processors | frames in flight | threads each | frames/s | latency ms | processor ms "
        f"| of {CAMERAS} cameras' worst |"
    )
    click.echo("|---|---:|---:|---:|---:|---:|---:|")
    click.echo("\n".join(way.row() for way in ways))


def choose_ways(file: Path, cores: int) -> list[Way]:
    """The cores shared out in several ways, and once twice as many threads."""
    shares = dict.fromkeys([(1, 1), (1, cores), (2, max(1, cores // 2)), (cores, 1), (2, cores)])
    can_spin = "spinning" in runtimes.ModelFile(file).format.options.names()
    return [Way(file, frames, threads, spinning) for frames, threads in shares
            for spinning in ((False, True) if can_spin and threads > 1 else (False,))]  # fmt: skip


if __name__ == "__main__":
    main()

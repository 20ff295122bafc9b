"""Measure latency against the number of detections, for each runtime.

    python benchmarks/latency_by_detections.py --weights best.pt --source PICTURES -o FOLDER
    python benchmarks/latency_by_detections.py --models best.onnx best-int8.xml best.tflite --source PICTURES

Only the picture changes; weights and the score threshold stay the same. The pictures of `--source` are tiled to a
crowd, and a scene shows some tiles of it on gray. Of 200 such scenes the benchmark takes the one in which the number of
detections is nearest to the requested one. The actual number is printed beside the time. With `--weights`, files with
D = 100 are exported first; `--models` should be such files too.

All files and scenes take turns; the median counts.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import runtimes
from edge_mrcnn.cli.options import comma_list
from quantize import CalibrationSet
from runtimes.base import Array, Runtime
from runtimes.preprocess import letterbox_image

SCENES = 200
"""Number of scenes, from no tile to all tiles."""
GRAY = 128


@dataclass
class Trial:
    """One file on one scene."""

    runtime: Runtime
    scene: Array
    found: int
    times_ms: list[float]

    def run(self) -> None:
        """Time it once, without letterbox."""
        start = time.perf_counter()
        self.runtime.run(self.scene)
        self.times_ms.append(1e3 * (time.perf_counter() - start))


@click.command()
@click.option("--models", help="Exported files, with commas.")
@click.option("--weights", help="Checkpoint to export with D = 100 instead.")
@click.option("--source", required=True, help="Folder of pictures of what the model knows.")
@click.option("--proposals", type=int, default=200, show_default=True, help="P of the files made from --weights.")
@click.option("--tiles", type=int, default=6, show_default=True, help="Pictures per side of the crowd.")
@click.option("--counts", default="0,1,5,20,100", show_default=True, help="Numbers of detections.")
@click.option("--rounds", type=int, default=15, show_default=True, help="Runs of each file on each scene.")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/latency"), show_default=True)
def measure(
    models: str | None, weights: str | None, source: str, proposals: int, tiles: int, counts: str, rounds: int,
    threads: int, output: Path,
) -> None:  # fmt: skip
    """Print a table of milliseconds, files in rows and numbers of detections in columns."""
    if (models is None) == (weights is None):
        raise click.UsageError("expected either --models or --weights")
    pictures = list(CalibrationSet.load(source).images(tiles * tiles))
    files = [Path(file) for file in comma_list(models)] if models else export_crowded(str(weights), output, proposals)
    wanted = [int(count) for count in comma_list(counts)]
    rows = {file: find_scenes(runtimes.load(file, threads=threads), pictures, tiles, wanted) for file in files}
    trials = [trial for row in rows.values() for trial in row]
    for round_ in range(rounds):
        for index in range(len(trials)):
            trials[(index + round_) % len(trials)].run()
    click.echo(
        f"| ms, {threads} thread{'s' * (threads > 1)} | " + " | ".join(f"{count} objects" for count in wanted) + " |"
    )
    click.echo("|---|" + "---:|" * len(wanted))
    for file, row in rows.items():
        click.echo(f"| {file.name} | " + " | ".join(map(cell, row)) + " |")


def export_crowded(weights: str, folder: Path, proposals: int) -> list[Path]:
    """Files of every target that can hold 100 detections."""
    from edge_mrcnn.export.pipeline import export
    from edge_mrcnn.export.settings import ExportConfig

    return export(weights, folder, ExportConfig(max_detections=100, proposals=proposals), say=click.echo)


def find_scenes(runtime: Runtime, pictures: list[Array], tiles: int, wanted: list[int]) -> list[Trial]:
    """For each number of objects the scene in which the file finds the nearest number."""
    crowd, rng = make_crowd(pictures, tiles, runtime.card), np.random.default_rng(0)
    scenes = [show(crowd, rng.random((tiles, tiles)) < share) for share in np.linspace(0, 1, SCENES) ** 2]
    found = [int((runtime.run(scene).scores > 0).sum()) for scene in scenes]
    nearest = [min(range(SCENES), key=lambda index, count=count: abs(found[index] - count)) for count in wanted]
    return [Trial(runtime, scenes[index], found[index], []) for index in nearest]


def make_crowd(pictures: list[Array], tiles: int, card: runtimes.ModelCard) -> Array:
    """(1, H, W, 3) uint8: `tiles` x `tiles` pictures, letterboxed small."""
    height, width = (side // tiles for side in card.input_size_hw)
    canvas = np.full((1, *card.input_size_hw, 3), GRAY, np.uint8)
    for index in range(tiles * tiles):
        top, left = index // tiles * height, index % tiles * width
        small, _ = letterbox_image(pictures[index % len(pictures)], (height, width), card.pad_rgb)
        canvas[0, top : top + height, left : left + width] = small
    return canvas


def show(crowd: Array, chosen: Array) -> Array:
    """The chosen tiles of a crowd, (tiles, tiles) bool, the rest gray."""
    height, width = (side // len(chosen) for side in crowd.shape[1:3])
    scene = np.full_like(crowd, GRAY)
    for row, column in np.argwhere(chosen):
        place = np.s_[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
        scene[place] = crowd[place]
    return scene


def cell(trial: Trial) -> str:
    """Such as "12.3 (5)": the median time and the number of detections."""
    return f"{statistics.median(trial.times_ms):.1f} ({trial.found})"


if __name__ == "__main__":
    measure()

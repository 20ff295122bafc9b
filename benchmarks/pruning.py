"""Compare pruned checkpoints with the one that they were made from: AP, time and size.

    python benchmarks/pruning.py --base best.pt --data DIR -o runs/pruning runs/p65/best.pt runs/p50/best.pt

Each is exported to each target, its AP is measured with torch on the val split of DIR, and all files of a target are
timed in turn on the same pictures, at score thresholds at which all models find as many objects there as the base does.
Prints a Markdown table. "of what MACs promise" is the speed-up divided by the factor by which multiply-accumulates
shrank, counted with as many detections as the pictures show. The megabytes are those of the first target's file.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import runtimes
from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.evaluate import evaluate
from edge_mrcnn.export.cost import Cost, measure_cost
from edge_mrcnn.export.pipeline import export
from edge_mrcnn.export.settings import ExportConfig
from edge_mrcnn.measure.latency import measure_latency
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint
from edge_mrcnn.prune.latency import equal_threshold
from edge_mrcnn.reference import TorchRuntime
from edge_mrcnn.tables import Table
from runtimes.formats import files_of
from runtimes.preprocess import read_image


@dataclass(frozen=True)
class Model:
    """One checkpoint and its files."""

    name: str
    checkpoint: Checkpoint
    files: dict[str, Path]
    """Target to file."""


@click.command()
@click.option("--base", required=True, type=click.Path(path_type=Path, exists=True), help="The unpruned checkpoint.")
@click.option("--data", required=True, help="COCO folder or annotation file.")
@click.option("--targets", default="onnx,openvino,tflite", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Number of images for AP; the first ones are taken.")
@click.option("--pictures", type=click.IntRange(1), default=12, show_default=True, help="To time on.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.argument("pruned", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def compare(
    base: Path, data: str, targets: str, limit: int | None, pictures: int, rounds: int, threads: int, output: Path,
    pruned: tuple[Path, ...],
) -> None:  # fmt: skip
    """Print the table."""
    names = tuple(targets.split(","))
    val = load(data, "val")
    frames = [read_image(image.path) for image in val.images[:pictures]]
    reference = TorchRuntime(load_checkpoint(base), device="cpu")
    found = float(np.mean([len(reference.infer(frame).scores) for frame in frames]))
    click.echo(f"{found:.1f} objects in each of {len(frames)} pictures", err=True)
    models = [prepare(path, output, names, frames, found) for path in (base, *pruned)]
    times = {target: time_files([m.files[target] for m in models], frames, rounds, threads) for target in names}
    click.echo("\n".join(tabulate(models, val, limit, times, found)))


def prepare(path: Path, output: Path, targets: tuple[str, ...], frames: Sequence[np.ndarray], found: float) -> Model:
    """Export a checkpoint so that it finds this number of objects in a frame, on average."""
    name = path.parent.name if path.stem in ("best", "last") else path.stem
    checkpoint = load_checkpoint(path)
    config = ExportConfig(targets=targets, score_threshold=equal_threshold(checkpoint, frames, found))
    files = export(path, output / name, config, say=lambda line: click.echo(line, err=True))
    return Model(name, checkpoint, dict(zip(targets, files, strict=True)))


def time_files(files: Sequence[Path], frames: Sequence[np.ndarray], rounds: int, threads: int) -> list[float]:
    """Milliseconds from frame to detections of all files of a target, in turn; the mean over frames of medians."""
    with ExitStack() as stack:
        opened = [stack.enter_context(runtimes.load(file, threads=threads)) for file in files]
        stages = [measure_latency(opened, [frame], rounds=rounds) for frame in frames]
    return [float(np.mean([frame[index]["total"].p50 for frame in stages])) for index in range(len(files))]


def tabulate(
    models: Sequence[Model], val: CocoData, limit: int | None, times: dict[str, list[float]], found: float
) -> list[str]:
    """One line per model."""
    header = ["model", "GMAC", "of base", "M weights", "box AP", "mask AP", "MB", "zipped MB"]
    for target in times:
        header += [f"ms {target}", "of what MACs promise"]
    scores = [evaluate(TorchRuntime(m.checkpoint, device="cpu"), val, limit=limit) for m in models]
    costs = [measure_cost(m.checkpoint.model, m.checkpoint.config) for m in models]
    body = []
    for index, (model, cost, score) in enumerate(zip(models, costs, scores, strict=True)):
        cells = [model.name, f"{cost.macs / 1e9:.3f}", f"{100 * cost.macs / costs[0].macs:.0f} %"]
        cells += [f"{cost.parameters / 1e6:.2f}", f"{100 * score.box.ap:.1f}", f"{100 * score.mask.ap:.1f}"]
        cells += [f"{size:.2f}" for size in file_mb(next(iter(model.files.values())))]
        for took_ms in times.values():
            base_ms, latency_ms = took_ms[0], took_ms[index]
            promise = seen_cost(models[0], found).macs / seen_cost(model, found).macs
            cells += [f"{latency_ms:.1f}", f"{base_ms / latency_ms / promise:.2f}" if index else "–"]
        body.append(tuple(cells))
    return Table(tuple(header), tuple(body), 1).markdown()


def seen_cost(model: Model, found: float) -> Cost:
    """Multiply-accumulates with as many detections as the pictures have."""
    config = model.checkpoint.config
    seen = max(1, min(round(found), config.max_detections))
    return measure_cost(model.checkpoint.model, config.updated(max_detections=seen))


def file_mb(path: Path) -> tuple[float, float]:
    """Megabytes of a file with its weights, and of the same file compressed."""
    content = b"".join(file.read_bytes() for file in files_of(path))
    return len(content) / 1e6, len(zlib.compress(content, 6)) / 1e6


if __name__ == "__main__":
    compare()

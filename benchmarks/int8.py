"""What INT8 costs and gains, for each model and runtime, in one table.

    python -m benchmarks.int8 scratch/people/best.pt nano-dense nano --data scratch/people --calib scratch/people

A model is a checkpoint, or the name of a preset, which gets random weights: those have a speed and no accuracy. Each
checkpoint is exported, verified and quantized for each runtime; the quantization runs in a process of its own, whose
time and peak memory count. Drops are points of AP against the FP32 file of the same runtime, with the interval of 95 %
of resampled image sets; agreement is the mask IoU of what both files find. Speed is that of the network, one thread,
both files in turn on the same calibration pictures, OpenVINO with the precision hint f32.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

import runtimes
from benchmarks.peers.ours import file_of, make_files, write_frames
from edge_mrcnn.cli.options import comma_list
from edge_mrcnn.config import PRESETS
from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.drop import Drop
from edge_mrcnn.evaluation.evaluate import Evaluation, evaluate
from edge_mrcnn.measure.files import file_size
from edge_mrcnn.report.comparison import score_of
from quantize import CalibrationSet
from quantize.sensitivity import best_times_ms
from quantize.settings import EFFORTS
from runtimes.formats import FORMATS

SPEED_IMAGES = 12
"""Pictures that speed is measured on."""
PRESET_SIDE = 320
"""Input size of presets, in pixels."""

CHILD = """
import sys
from edge_mrcnn.benchmark.worker import peak_memory
from edge_mrcnn.cli import group

group(sys.argv[1:], standalone_mode=False)
print(peak_memory())
"""
"""A process that runs one command and says what memory it took: the system's own account begins at its parent's."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A model in one runtime: its FP32 and its INT8 file, and what the quantization took."""

    model: str
    runtime: str
    plain: Path
    small: Path
    seconds: float = float("nan")
    """Of the quantization, calibration included."""
    peak_bytes: float = float("nan")
    """Resident memory of that process at its highest."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What an INT8 file loses to its FP32 file, in points of AP; negative is a gain."""

    box: Drop
    mask: Drop
    small: float
    """Mask AP of small objects; nan where there are none."""
    worst_class: float
    """Largest drop of mask AP of a class."""
    mask_iou: float
    """Mean IoU of the matched pairs, in [0, 1]."""
    found: float
    """Share of the FP32 file's confident detections that the INT8 file finds too."""


HEADER = """\
| model, runtime | box drop | mask drop | small | worst class | mask IoU | found | size | FP32 ms | INT8 ms | speed \
| calibration s | peak MB |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--runtimes", "names", default=",".join(FORMATS), show_default=True)
@click.option("--data", help="COCO data with truth; checkpoints only.")
@click.option("--calib", help="Calibration pictures; checkpoints only.")
@click.option("--images", default=256, show_default=True, help="Calibration images at most.")
@click.option("--effort", type=click.Choice(EFFORTS), default="auto", show_default=True, help="Of the calibration.")
@click.option("--limit", type=click.IntRange(1), help="Images of the data at most.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/int8"), show_default=True)
def main(
    models: tuple[str, ...], names: str, data: str | None, calib: str | None, images: int, effort: str,
    limit: int | None, output: Path,
) -> None:  # fmt: skip
    """Print the tables in Markdown."""
    truth = load(data, "val") if data else None
    click.echo(HEADER)
    for model in models:
        for pair in make_pairs(model, comma_list(names), calib, images, effort, output):
            loss = measure_loss(pair, truth, limit) if truth and model not in PRESETS else None
            click.echo(format_row(pair, loss, *measure_speed(pair, calib, output)))


def make_pairs(
    model: str, names: tuple[str, ...], calib: str | None, images: int, effort: str, output: Path
) -> Iterator[Pair]:
    """The files of a model, made unless they are there."""
    if model in PRESETS:
        make_files(output, model, PRESET_SIDE, names)
        for name in names:
            plain, small = (file_of(output, model, PRESET_SIDE, name, precision) for precision in ("fp32", "int8"))
            yield Pair(model=model, runtime=name, plain=plain, small=small)
        return
    if calib is None:
        raise click.UsageError(f"{model}: a checkpoint needs --calib")
    folder = output / Path(model).resolve().parent.name
    export_checkpoint(model, names, folder)
    for name in names:
        plain = folder / f"{Path(model).stem}{FORMATS[name].suffix}"
        small = plain.with_name(f"{plain.stem}-int8{plain.suffix}")
        seconds, peak = quantize_apart(plain, small, calib, images, effort)
        yield Pair(model=model, runtime=name, plain=plain, small=small, seconds=seconds, peak_bytes=peak)


def export_checkpoint(weights: str, names: tuple[str, ...], folder: Path) -> None:
    """Write the FP32 files that are not there."""
    from edge_mrcnn.export.pipeline import export
    from edge_mrcnn.export.settings import ExportConfig

    stem = Path(weights).stem
    if missing := tuple(name for name in names if not (folder / f"{stem}{FORMATS[name].suffix}").is_file()):
        export(weights, folder, ExportConfig(targets=missing), say=lambda said: click.echo(said, err=True))


def quantize_apart(plain: Path, small: Path, calib: str, images: int, effort: str) -> tuple[float, float]:
    """Quantize in a process of its own.

    Returns:
        Seconds, and bytes of resident memory at its highest.
    """
    command = ["quantize", "--model", str(plain), "--calib", calib, "--calib-images", str(images)]
    command += ["--effort", effort, "-o", str(small), "--overwrite"]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CHILD, *command], stdout=subprocess.PIPE, check=True, text=True)
    return time.perf_counter() - start, float(done.stdout.split()[-1])


def measure_loss(pair: Pair, truth: CocoData, limit: int | None) -> Loss:
    """The INT8 file's accuracy beside the FP32 file's."""
    exact, rounded = (measure_accuracy(path, truth, limit) for path in (pair.plain, pair.small))
    score = score_of(rounded, exact)
    assert score.box_drop and score.mask_drop and score.agreement  # they exist because a reference was given
    classes = [ap - rounded.mask_per_class[label] for label, ap in exact.mask_per_class.items()]
    return Loss(
        box=score.box_drop,
        mask=score.mask_drop,
        small=100 * (exact.mask.ap_small - rounded.mask.ap_small),
        worst_class=100 * float(np.nanmax(classes)),
        mask_iou=score.agreement.mask_iou,
        found=score.agreement.found,
    )


def measure_accuracy(path: Path, truth: CocoData, limit: int | None) -> Evaluation:
    """Detections and AP of one file."""
    with runtimes.load(path, threads=1) as runtime:
        return evaluate(runtime, truth, limit=limit)


def measure_speed(pair: Pair, calib: str | None, output: Path) -> tuple[float, float]:
    """Milliseconds of a run of the FP32 and of the INT8 network, in turn on the same pictures."""
    pictures = write_frames(output / "frames") if pair.model in PRESETS or calib is None else Path(calib)
    with runtimes.load(pair.plain, threads=1) as plain, runtimes.load(pair.small, threads=1) as small:
        tensors = list(CalibrationSet.load(pictures).tensors(plain.card, SPEED_IMAGES))
        plain_ms, small_ms = best_times_ms([plain, small], tensors)
    return plain_ms, small_ms


def format_row(pair: Pair, loss: Loss | None, plain_ms: float, small_ms: float) -> str:
    """One row of the table."""
    accuracy = "– | – | – | – | – | –"
    if loss:
        accuracy = (
            f"{format_drop(loss.box)} | {format_drop(loss.mask)} | {loss.small:+.2f} | {loss.worst_class:+.2f} | "
            f"{loss.mask_iou:.3f} | {loss.found:.3f}"
        )
    ratio = file_size(pair.small) / file_size(pair.plain)
    return (
        f"| {pair.model}, {pair.runtime} | {accuracy} | {ratio:.3f} | {plain_ms:.1f} | {small_ms:.1f} | "
        f"{plain_ms / small_ms:.2f}x | {pair.seconds:.0f} | {pair.peak_bytes / 1e6:.0f} |"
    )


def format_drop(drop: Drop) -> str:
    """Points, with their interval."""
    low, high = drop.interval
    return f"{100 * drop.value:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


if __name__ == "__main__":
    main()

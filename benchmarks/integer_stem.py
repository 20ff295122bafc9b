"""Compare INT8 files with the first convolution in INT8 and in float: accuracy and time.

    python -m benchmarks.integer_stem best.pt --calib people
    python -m benchmarks.integer_stem nano-dense small-dense --size 320 --size 640

For models whose images are divided by 255 and nothing else: their INT8 files multiply the bytes of a picture. A model
is a checkpoint, whose detections are compared too, or a preset with random weights. The change by INT8 is measured
without ground truth: FP32 detections in pictures outside the calibration set are matched with those of the INT8 file.
Times are processor milliseconds on one thread, medians, both files in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import quantize
import runtimes
from benchmarks.int8 import export_checkpoint
from benchmarks.peers.backbone import open_backbone
from benchmarks.peers.ours import file_of, make_files, write_frames
from edge_mrcnn.cli.options import comma_list
from edge_mrcnn.config import PRESETS
from runtimes.base import RawOutputs
from runtimes.formats import FORMATS
from runtimes.parity import box_iou, live_rows, match
from runtimes.preprocess import letterbox, read_image

Tensor = NDArray[np.uint8]

STEM = "backbone.stage0.0"
"""The block of a RepVGG backbone's first convolution."""
SURE = 0.3
"""Score threshold of the objects of either file, in [0, 1]."""
LEAST = 0.15
"""Score at which the other file must find the object too; otherwise it is lost or new."""

HEADER = """\
| model, runtime | first convolution | lost / new of objects | 1 - box IoU | 1 - mask IoU | rms of score \
| network ms | backbone ms |
|---|---|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True, kw_only=True)
class Change:
    """The change that INT8 causes in the confident objects of FP32."""

    objects: int
    """Number of confident objects of the FP32 file."""
    lost: int
    new: int
    box: float
    """Mean of 1 - box IoU of the pairs; nan without pairs."""
    mask: float
    """Mean of 1 - mask IoU of the pairs; nan without pairs."""
    score: float
    """Root of the mean squared difference of scores; nan without pairs."""


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--runtimes", "names", default=",".join(FORMATS), show_default=True)
@click.option("--calib", help="Calibration pictures; checkpoints only.")
@click.option("--images", default=64, show_default=True, help="Calibration images at most.")
@click.option(
    "--probes",
    default=100,
    show_default=True,
    help="Number of pictures for the comparison of detections; checkpoints only.",
)
@click.option(
    "--size", "sizes", multiple=True, type=int, default=(320,), help="Input sides of presets; may be repeated."
)
@click.option("--rounds", default=40, show_default=True, help="Timed runs of each file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/integer-stem"), show_default=True)
def main(
    models: tuple[str, ...], names: str, calib: str | None, images: int, probes: int, sizes: tuple[int, ...],
    rounds: int, output: Path,
) -> None:  # fmt: skip
    """Print the table in Markdown."""
    click.echo(HEADER)
    for model, name in ((model, name) for model in models for name in comma_list(names)):
        if model in PRESETS:
            for size in sizes:
                make_files(output, model, size, (name,))
                plain = file_of(output, model, size, name, "fp32")
                print_rows(f"{model}, {name}, {size} px", plain, str(write_frames(output / "frames")), 8, 0, rounds)
        elif calib is None:
            raise click.UsageError(f"{model}: a checkpoint needs --calib")
        else:
            export_checkpoint(model, (name,), output)
            plain = output / f"{Path(model).stem}{FORMATS[name].suffix}"
            print_rows(f"{Path(model).stem}, {name}", plain, calib, images, probes, rounds)


def print_rows(title: str, plain: Path, calib: str, images: int, probes: int, rounds: int) -> None:
    """The rows of one FP32 file: the INT8 file with its first convolution in float, and the one with it in integers."""
    calibration = quantize.CalibrationSet.load(calib)
    files = write_pair(plain, calibration, images, is_draft=not probes)
    tensors = list(other_tensors(plain, calibration, images, max(probes, 1)))
    with runtimes.load(plain, threads=1) as exact:
        expected = [live_rows(exact.run(tensor)) for tensor in tensors[:probes]]
    opened = [runtimes.load(file, threads=1) for file in files]
    networks = median_ms([lambda run=runtime.run: run(tensors[0]) for runtime in opened], rounds)  # type: ignore[misc]
    backbones = median_ms([open_backbone(file, 1) for file in files], rounds)
    for stem, runtime, network, backbone in zip(("float", "integer"), opened, networks, backbones, strict=True):
        change = compare(expected, (live_rows(runtime.run(tensor)) for tensor in tensors[:probes]))
        click.echo(f"| {title} | {stem} | {format_change(change)} | {network:.2f} | {backbone:.2f} |")
        runtime.close()


def write_pair(plain: Path, calibration: quantize.CalibrationSet, images: int, *, is_draft: bool) -> tuple[Path, Path]:
    """INT8 files from one measurement of ranges: the first convolution in float, and in integers.

    A draft has another accuracy and the same operators.
    """
    quantizer = quantize.open_quantizer(plain, calibration, quantize.QuantizeConfig(images=images))
    files = plain.with_stem(f"{plain.stem}-float-stem"), plain.with_stem(f"{plain.stem}-integer-stem")
    for file, keep_float in zip(files, (frozenset({STEM}), frozenset[str]()), strict=True):
        quantizer.write(file, keep_float, is_draft=is_draft)
        file.with_stem(f"{file.stem}-backbone").unlink(missing_ok=True)
    return files


def other_tensors(plain: Path, calibration: quantize.CalibrationSet, images: int, count: int) -> Iterator[Tensor]:
    """Pictures that were not used for calibration, letterboxed; any pictures if all of them were."""
    card = runtimes.read_card(plain)
    chosen = set(calibration.choose(images))
    others = [file for file in calibration.files if file not in chosen] or list(calibration.files)
    for index in np.random.default_rng(5).permutation(len(others))[:count]:
        yield letterbox(read_image(others[index]), card)[0]


def compare(expected: Sequence[RawOutputs], found: Iterator[RawOutputs]) -> Change:
    """Match the detections of each picture."""
    objects = lost = new = 0
    differences: list[tuple[float, float, float]] = []
    for exact, rounded in zip(expected, found, strict=True):
        pairs = match(exact, rounded)
        objects += int((exact.scores > SURE).sum())
        lost += unmatched(exact, rounded, dict(pairs))
        new += unmatched(rounded, exact, {theirs: ours for ours, theirs in pairs})
        differences += [difference(exact, rounded, *pair) for pair in pairs if exact.scores[pair[0]] > SURE]
    box, mask, score = np.array(differences).T if differences else np.full((3, 1), np.nan)
    return Change(
        objects=objects, lost=lost, new=new, box=float(box.mean()), mask=float(mask.mean()),
        score=float(np.sqrt((score**2).mean())),
    )  # fmt: skip


def unmatched(ours: RawOutputs, theirs: RawOutputs, pairs: dict[int, int]) -> int:
    """Number of confident objects of one file that the other file misses or gives a very low score."""
    sure = np.flatnonzero(ours.scores > SURE)
    return sum(int(row) not in pairs or theirs.scores[pairs[int(row)]] < LEAST for row in sure)


def difference(exact: RawOutputs, rounded: RawOutputs, row: int, other: int) -> tuple[float, float, float]:
    """1 - IoU of the boxes, 1 - IoU of the masks where they reach one half, and the difference of the scores."""
    box = box_iou(exact.boxes[row : row + 1], rounded.boxes[other : other + 1])[0, 0]
    ours, theirs = exact.masks[row] > 0.5, rounded.masks[other] > 0.5
    mask = (ours & theirs).sum() / max((ours | theirs).sum(), 1)
    return 1 - float(box), 1 - float(mask), float(exact.scores[row] - rounded.scores[other])


def median_ms(runs: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Processor milliseconds of each function, called in turn."""
    times = np.zeros((len(runs), rounds))
    for run in runs:
        run()
    for turn in range(rounds):
        for row, run in enumerate(runs):
            start = time.process_time()
            run()
            times[row, turn] = 1e3 * (time.process_time() - start)
    return [float(value) for value in np.median(times, axis=1)]


def format_change(change: Change) -> str:
    """Four columns."""
    if not change.objects:
        return "– | – | – | –"
    return (
        f"{change.lost} / {change.new} of {change.objects} | {100 * change.box:.2f} % | {100 * change.mask:.2f} % | "
        f"{change.score:.4f}"
    )


if __name__ == "__main__":
    main()

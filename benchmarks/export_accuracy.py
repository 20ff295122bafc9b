"""COCO AP of each runtime's FP32 file beside torch's, on a val set.

    python benchmarks/export_accuracy.py --reference best.pt --data DIR models/best.onnx models/best.xml

DIR is a COCO folder (its val split) or an annotation file. Prints a Markdown table; exits 3 if box or mask AP of a file
differs from torch's by more than 0.0002.
"""

from __future__ import annotations

from pathlib import Path

import click

from edge_mrcnn.data import load
from edge_mrcnn.evaluation.evaluate import Evaluation, evaluate
from edge_mrcnn.report.models import open_model

LIMIT = 2e-4
"""Tolerance of the difference in AP, in [0, 1]."""


@click.command()
@click.option("--reference", required=True, type=click.Path(path_type=Path), help="The checkpoint.")
@click.option("--data", required=True, help="COCO folder or annotation file.")
@click.option("--limit", type=click.IntRange(1), help="Number of images; the first ones are taken.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def check(
    context: click.Context, reference: Path, data: str, limit: int | None, threads: int, models: tuple[Path, ...]
) -> None:
    """Print AP and its difference from torch's."""
    expected = measure(reference, data, limit, threads)
    click.echo(f"| {expected.images} images | box AP | difference | mask AP | difference | within {LIMIT} |")
    click.echo("|---|---:|---:|---:|---:|---|")
    click.echo(f"| torch, FP32 | {expected.box.ap:.5f} | – | {expected.mask.ap:.5f} | – | – |")
    passes = [report(path, measure(path, data, limit, threads), expected) for path in models]
    context.exit(0 if all(passes) else 3)


def measure(path: Path, data: str, limit: int | None, threads: int) -> Evaluation:
    """AP of one model."""
    with open_model(path, device="cpu", threads=threads).runtime as runtime:
        return evaluate(runtime, load(data, "val"), limit=limit)


def report(path: Path, found: Evaluation, expected: Evaluation) -> bool:
    """Print a model's row and say whether it is within the limit."""
    box, mask = found.box.ap - expected.box.ap, found.mask.ap - expected.mask.ap
    passes = max(abs(box), abs(mask)) <= LIMIT
    figures = f"{found.box.ap:.5f} | {box:+.5f} | {found.mask.ap:.5f} | {mask:+.5f}"
    click.echo(f"| {path.name} | {figures} | {'yes' if passes else 'no'} |")
    return passes


if __name__ == "__main__":
    check()

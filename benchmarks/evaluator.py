"""Check the evaluator against published numbers.

    python benchmarks/evaluator.py --reference DIR

DIR holds `instances_*.json`, `*fakebbox*_results.json`, `*fakesegm*_results.json` (from cocodataset/cocoapi) and
`published_numbers.json`. Exits 3 if one of the 24 numbers differs by more than 0.001 as printed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.report.metrics import STATS, coco_summary

TOLERANCE = 1e-3
"""Of numbers that were published with three decimals."""


@click.command()
@click.option("--reference", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.pass_context
def check(context: click.Context, reference: Path) -> None:
    """Print our 24 numbers beside the published ones."""
    published = _read(reference, "published_numbers.json")
    truth = _read(reference, "instances_*[0-9].json")
    differing = 0
    click.echo(f"{'':12}{'ours':>8}{'published':>12}")
    for iou_type in ("bbox", "segm"):
        ours = coco_summary(truth, _read(reference, f"*fake{iou_type}*_results.json"), iou_type).by_name()
        for name in STATS:
            expected = published[iou_type][name]
            agrees = abs(round(ours[name], 3) - expected) <= TOLERANCE + 1e-9
            differing += not agrees
            click.echo(f"{iou_type} {name:7}{ours[name]:8.3f}{expected:12.3f}{'' if agrees else '  differs'}")
    click.echo(f"{24 - differing} of 24 numbers agree")
    context.exit(3 if differing else 0)


def _read(folder: Path, pattern: str) -> Any:
    files = sorted(folder.glob(pattern))
    if not files:
        raise click.UsageError(f"{folder}: expected a file named {pattern}")
    return json.loads(files[0].read_text())


if __name__ == "__main__":
    check()

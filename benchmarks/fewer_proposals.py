"""Measure the drop of AP, and the work that is left, with fewer proposals and detections.

    python -m benchmarks.fewer_proposals people --data scratch/people/annotations/instances_coco80_val.json
    python -m benchmarks.fewer_proposals best.pt --data street --settings 1000:100,300:100,100:100,100:20

A setting is proposals:detections, as for `export --proposals --max-det`; the first is the reference. Each is evaluated
in torch, and drops are points of AP with the interval of 95 % of resampled image sets. The work is what `export`
counts, in multiply-accumulates of a picture.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import click

from benchmarks.int8 import format_drop
from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.evaluate import Evaluation, evaluate
from edge_mrcnn.export.cost import measure_cost
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint
from edge_mrcnn.model.mask_rcnn import apply_inference_settings
from edge_mrcnn.reference import TorchRuntime
from edge_mrcnn.report.comparison import score_of
from runtimes.shipped import checkpoint_file

HEADER = """\
| proposals, detections | box AP | mask AP | box drop | mask drop | GMAC |
|---|---:|---:|---|---|---:|"""


@dataclass(frozen=True)
class Setting:
    """The number of proposals and detections."""

    proposals: int
    detections: int

    @classmethod
    def parse(cls, text: str) -> Setting:
        """From "100:20"."""
        proposals, _, detections = text.partition(":")
        return cls(int(proposals), int(detections))


def with_setting(checkpoint: Checkpoint, setting: Setting) -> Checkpoint:
    """A copy of a checkpoint with this number of proposals; every level of the pyramid may give all of them."""
    config = checkpoint.config.updated(
        proposals=setting.proposals,
        proposals_per_level=max(setting.proposals, checkpoint.config.proposals_per_level),
        max_detections=setting.detections,
    )
    model = copy.deepcopy(checkpoint.model)
    apply_inference_settings(model, config)
    return replace(checkpoint, model=model, config=config)


def measure(checkpoint: Checkpoint, data: CocoData, limit: int | None) -> Evaluation:
    """AP in torch, on the processor."""
    with TorchRuntime(checkpoint, device="cpu") as runtime:
        return evaluate(runtime, data, limit=limit)


def format_row(setting: Setting, found: Evaluation, first: Evaluation, gmac: float) -> str:
    """One row of the table."""
    score = score_of(found, first)
    assert score.box_drop and score.mask_drop  # they exist because a reference was given
    drops = "– | –" if found is first else f"{format_drop(score.box_drop)} | {format_drop(score.mask_drop)}"
    what = f"{setting.proposals}, {setting.detections}"
    return f"| {what} | {100 * found.box.ap:.1f} | {100 * found.mask.ap:.1f} | {drops} | {gmac:.2f} |"


@click.command()
@click.argument("weights")
@click.option("--data", required=True, help="COCO data with truth.")
@click.option("--settings", default="1000:100,300:100,100:100,100:20", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Images of the data at most.")
def main(weights: str, data: str, settings: str, limit: int | None) -> None:
    """Print the table in Markdown."""
    checkpoint = load_checkpoint(checkpoint_file(weights))
    truth = load(data, "val")
    first: Evaluation | None = None
    click.echo(HEADER)
    for setting in map(Setting.parse, settings.split(",")):
        changed = with_setting(checkpoint, setting)
        gmac = measure_cost(changed.model, changed.config).macs / 1e9
        found = measure(changed, truth, limit)
        first = first or found
        click.echo(format_row(setting, found, first, gmac))


if __name__ == "__main__":
    main()

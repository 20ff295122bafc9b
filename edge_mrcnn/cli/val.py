"""`edge-mrcnn val`: the AP of one model."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_mrcnn.cli.options import DATA_HELP, make_progress, name_next, say_layout
from edge_mrcnn.tables import NONE, Table

if TYPE_CHECKING:
    from edge_mrcnn.evaluation.evaluate import Evaluation

COLUMNS = {
    "AP": "ap", "AP50": "ap50", "AP75": "ap75", "small": "ap_small", "medium": "ap_medium", "large": "ap_large",
    "AR100": "ar100",
}  # fmt: skip
"""Column heading -> field of `ApSummary`."""


@click.command()
@click.option(
    "--model", required=True, help="Exported model (.onnx, .xml or .tflite), or a checkpoint, which needs torch."
)
@click.option("--data", required=True, help=DATA_HELP)
@click.option("--split", default="val", show_default=True, help="Split of the data.")
@click.option("--limit", type=click.IntRange(min=1), help="Measure on at most this many images.")
@click.option(
    "--device", help="Device. Checkpoint: cpu, cuda, ...; OpenVINO: gpu, npu; ONNX: cuda, tensorrt, openvino."
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of an exported model.")
@click.option("--per-class", is_flag=True, help="Also show the AP of each class.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the results to this JSON file.")
def command(
    model: str, data: str, split: str, limit: int | None, device: str | None, threads: int | None, per_class: bool,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Measure the AP of one model on labelled images.

    \b
    edge-mrcnn val --model best-int8.onnx --data DIR
    """
    from edge_mrcnn.cli.outputs import choose_output
    from edge_mrcnn.workflow import val

    json_path = choose_output(json_path, [model, data], option="--json") if json_path else None
    say_layout(data)
    evaluation = val(model, data, split=split, device=device, threads=threads, limit=limit, progress=make_progress())
    click.echo("\n".join(ap_table(evaluation)))
    if per_class:
        click.echo("\n" + "\n".join(class_table(evaluation)))
    total = evaluation.latency["total"]
    click.echo(f"\n{evaluation.images} images, median latency {total.p50:.1f} ms per image")
    if json_path:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(to_record(evaluation), indent=1) + "\n", encoding="utf-8")
        click.echo(f"wrote {json_path}")
    name_next("report", "--reference", "best.pt", "--models", model, "--data", data)


def ap_table(evaluation: Evaluation) -> list[str]:
    """COCO's metrics for boxes and masks, in percent."""
    rows = []
    for kind, summary in (("box", evaluation.box), ("mask", evaluation.mask)):
        rows.append((kind, *(percent(getattr(summary, name)) for name in COLUMNS.values())))
    return Table(("", *COLUMNS), tuple(rows)).text()


def class_table(evaluation: Evaluation) -> list[str]:
    """Box and mask AP of each class, in percent."""
    rows = []
    for category, name in evaluation.categories.items():
        aps = (evaluation.box_per_class[category], evaluation.mask_per_class[category])
        rows.append((name, *map(percent, aps)))
    return Table(("class", "box AP", "mask AP"), tuple(rows)).text()


def percent(share: float) -> str:
    """A share in percent, with a dash if it cannot be measured."""
    return NONE if math.isnan(share) or share < 0 else f"{100 * share:.1f}"


def to_record(evaluation: Evaluation) -> dict[str, Any]:
    """The numbers as JSON: shares in [0, 1], null if the data has no such object."""
    classes = {}
    for category, name in evaluation.categories.items():
        box, mask = evaluation.box_per_class[category], evaluation.mask_per_class[category]
        classes[name] = {"box_ap": _known(box), "mask_ap": _known(mask)}
    return {
        "images": evaluation.images,
        "box": {name: _known(value) for name, value in asdict(evaluation.box).items()},
        "mask": {name: _known(value) for name, value in asdict(evaluation.mask).items()},
        "classes": classes,
        "latency_ms": {stage: asdict(times) for stage, times in evaluation.latency.items()},
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)

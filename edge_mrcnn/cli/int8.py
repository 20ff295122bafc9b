"""Options that `quantize` and `export --int8` share, and the search for layers to keep in float."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli.options import load_split, make_progress

_OPTIONS = (
    click.option("--calib-images", type=int, default=128, show_default=True, help="Maximum number of --calib images."),
    click.option(
        "--keep-float", default="",
        help="Parts to keep in float: backbone,fpn,rpn,box_head,mask_head, or blocks of them.",
    ),
    click.option(
        "--reduce-range", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
        help="Use 7-bit weights, for x86 processors without VNNI; auto checks this processor.",
    ),
    click.option(
        "--effort", type=click.Choice(["auto", "full", "quick"]), default="auto", show_default=True,
        help="Effort of OpenVINO's calibration. quick skips the histograms and the layer-wise bias correction; auto "
        "is quick for heavy models.",
    ),
    click.option(
        "--max-drop", type=click.FloatRange(0, 1),
        help="Keep layers in float until the drop in AP is at most this, such as 0.003; needs --data.",
    ),
    click.option("--data", help="COCO data to measure the drop on; never the calibration images."),
    click.option("--limit", type=click.IntRange(1), help="Maximum number of images of --data."),
)  # fmt: skip


def int8_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of INT8, in the order in which they are listed here."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def search(
    model: Path, output: Path, calibration: Any, config: Any, *, max_drop: float, data: str, limit: int | None
) -> Iterator[str]:
    """Quantize within a budget of lost AP; the result as lines of text."""
    from edge_mrcnn.evaluation.int8_search import quantize_within

    validation = load_split(data, "val")
    return quantize_within(
        model, output, calibration, config, max_drop=max_drop, data=validation, limit=limit, progress=make_progress()
    )

"""AP of the people model, with intervals, on every set and on changed pictures.

    python benchmarks/people/measure.py --data scratch/people                            # all files, all sets
    python benchmarks/people/measure.py --data scratch/people --set crowd                # people of coco80, by size
    python benchmarks/people/measure.py --data scratch/people --change night             # the same pictures, darkened
    python benchmarks/people/measure.py --data scratch/people --change small             # ... a quarter of the area
    python benchmarks/people/measure.py --data scratch/people --models best.pt best.xml  # other files

DATA is what `prepare.py` wrote. The interval holds 95 % of the AP on sets of as many pictures drawn with replacement.
"night" is an exposure of 1/16 with the noise of few photons; "small" is the picture at half its height and width in
the middle of a grey one, so that people have a quarter of their area in the input.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from edge_mrcnn.data.loading import load  # noqa: E402
from edge_mrcnn.evaluation.evaluate import evaluate  # noqa: E402
from edge_mrcnn.evaluation.metrics import ApResult  # noqa: E402
from edge_mrcnn.report.models import open_model  # noqa: E402
from runtimes import Detections, Runtime  # noqa: E402
from runtimes.shipped import find_shipped  # noqa: E402

Row = dict[str, Any]

SETS = {"coco_person": "val", "Penn-Fudan": "pennfudan_val", "crowd": "coco80_val"}
"""Label -> split of the data."""
EXPOSURE = 1 / 16
"""Light of a night picture, as a share of daylight."""
PHOTONS = 120
"""Photons of a white pixel at that exposure; the fewer, the more noise."""
READ_NOISE = 2.0
"""Noise of the sensor itself, in photons."""
GAIN = 4
"""What the camera multiplies a dark picture by."""
GREY = 114


class Changed:
    """A runtime that changes each picture first, and maps the detections back to the original picture."""

    def __init__(self, runtime: Runtime, change: str) -> None:
        self.card = runtime.card
        self._runtime = runtime
        self._change = CHANGES[change]

    def infer(self, image: np.ndarray) -> Detections:
        """The objects of one (H, W, 3) uint8 RGB picture, in its own pixels."""
        return self._change(self._runtime, image)


def as_it_is(runtime: Runtime, image: np.ndarray) -> Detections:
    """The unchanged picture."""
    return runtime.infer(image)


def at_night(runtime: Runtime, image: np.ndarray) -> Detections:
    """The picture at a sixteenth of the light, amplified as by a camera, with the noise that this shows."""
    rng = np.random.default_rng(image.size)
    light = (image / 255.0) ** 2.2
    photons = rng.poisson(light * PHOTONS) + rng.normal(0, READ_NOISE, image.shape)
    seen = np.clip(photons / PHOTONS * EXPOSURE * GAIN, 0, 1)
    return runtime.infer((255 * seen ** (1 / 2.2)).round().astype(np.uint8))


def at_a_distance(runtime: Runtime, image: np.ndarray) -> Detections:
    """The picture at half its height and width, in the middle of a grey one of its size."""
    import cv2

    height, width = image.shape[:2]
    top, left = height // 4, width // 4
    small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    canvas = np.full_like(image, GREY)
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    found = runtime.infer(canvas)
    scale = np.array([width / small.shape[1], height / small.shape[0]] * 2, dtype=np.float32)
    boxes = (found.boxes_xyxy - np.array([left, top] * 2, dtype=np.float32)) * scale
    offset_x, offset_y = found.mask_offset_xy
    offset = (float(offset_x * scale[0]), float(offset_y * scale[1]))
    return replace(found, boxes_xyxy=boxes, mask_offset_xy=offset)


CHANGES: dict[str, Callable[[Runtime, np.ndarray], Detections]] = {
    "none": as_it_is,
    "night": at_night,
    "small": at_a_distance,
}


def interval(result: ApResult) -> tuple[float, float]:
    """The interval of AP of 95 % of resampled sets of pictures."""
    low, high = np.nanquantile(result.resampled, (0.025, 0.975))
    return float(low), float(high)


def measure_all(
    models: Iterable[Path], data: Path, *, sets: Iterable[str], changes: Iterable[str], say: bool = True
) -> list[Row]:
    """A row for each model, set and change."""
    rows = []
    for path in models:
        opened = open_model(path, device="cpu")
        with opened.runtime:
            for label in sets:
                truth = load(str(data / "annotations" / f"instances_{SETS[label]}.json"), "val")
                for change in changes:
                    found = evaluate(Changed(opened.runtime, change), truth)
                    row = describe(found) | {"model": path.name, "set": label, "change": change}
                    rows.append(row)
                    if say:
                        click.echo(line(row))
    return rows


def describe(found: Any) -> Row:
    """The figures of one evaluation, in [0, 1], None where there is no such object."""
    row: Row = {"images": found.images}
    for kind, result, summary in (("box", found.box_result, found.box), ("mask", found.mask_result, found.mask)):
        row[kind] = summary.ap
        row[f"{kind}_interval"] = interval(result)
        for size in ("small", "medium", "large"):
            value = getattr(summary, f"ap_{size}")
            row[f"{kind}_{size}"] = None if math.isnan(value) else value
    row["ms"] = found.latency["total"].p50
    return row


HEADINGS = ("model", "set", "pictures", "box AP", "mask AP", "box S / M / L", "mask S / M / L")


def line(row: Row) -> str:
    """One row of the table."""
    change = "" if row["change"] == "none" else f", {row['change']}"
    cells = [row["model"], f"{row['set']}{change}", str(row["images"])]
    for kind in ("box", "mask"):
        low, high = row[f"{kind}_interval"]
        cells.append(f"{100 * row[kind]:.1f} ({100 * low:.1f} to {100 * high:.1f})")
    for kind in ("box", "mask"):
        values = [row[f"{kind}_{size}"] for size in ("small", "medium", "large")]
        cells.append(" / ".join("–" if value is None else f"{100 * value:.1f}" for value in values))
    return f"| {' | '.join(cells)} |"


def table(rows: Iterable[Row]) -> str:
    """All rows as Markdown."""
    head = f"| {' | '.join(HEADINGS)} |\n|---|---|{'---:|' * (len(HEADINGS) - 2)}\n"
    return head + "\n".join(line(row) for row in rows) + "\n"


def shipped_files() -> list[Path]:
    """All files of the included model."""
    shipped = find_shipped("people")
    assert shipped is not None
    checkpoint = [shipped.checkpoint] if shipped.checkpoint else []
    return [*checkpoint, *shipped.files.values()]


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--models", multiple=True, type=click.Path(path_type=Path), help="[default: all included files]")
@click.argument("more", nargs=-1, type=click.Path(path_type=Path))
@click.option("--set", "sets", multiple=True, type=click.Choice(list(SETS)), help="[default: all]")
@click.option("--change", default="none", type=click.Choice(list(CHANGES)), show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Also write the rows here.")
def main(
    data: Path, models: tuple[Path, ...], more: tuple[Path, ...], sets: tuple[str, ...], change: str,
    output: Path | None,
) -> None:  # fmt: skip
    """Print a table."""
    click.echo(table([]).rstrip())
    files = [*models, *more] or shipped_files()
    rows = measure_all(files, data, sets=sets or tuple(SETS), changes=(change,))
    if output is not None:
        output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Show the errors of the people model: the ten worst ones as a sheet of pictures, and false positives in a video.

    python benchmarks/people/mistakes.py worst --data scratch/people -o worst.jpg
    python benchmarks/people/mistakes.py video car-detection.mp4 --frames 300 -o false.jpg

The worst errors are the five false positives with the highest scores (IoU below 0.3 with all people, crowds included)
and the five largest missed people (IoU below 0.3 with every detection with a score of at least 0.3). Do not publish the
sheet: the licences of most pictures forbid it.

In a video, the command counts the detections with a score of at least 0.5 and shows those with the highest scores. A
person has to judge whether they are false positives.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import click
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import runtimes  # noqa: E402
from edge_mrcnn.data.loading import load  # noqa: E402
from runtimes.sinks import write_image  # noqa: E402
from runtimes.sources import open_source  # noqa: E402

MET = 0.3
"""IoU below which a detection and a person are unrelated."""
SURE = 0.3
"""Score below which a detection does not count as finding a person."""
TILE = 300
"""Side of a picture in the sheet, in pixels."""
COLUMNS = 5
FALSE, MISSED = (255, 89, 64), (255, 221, 51)
"""RGB of the box of a false positive and of a missed person."""


class Mistake(NamedTuple):
    """One error."""

    weight: float
    """Score of a false positive, or area of a missed person as a share of the picture."""
    caption: str
    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    box: np.ndarray
    """(4,) x0 y0 x1 y1 in pixels."""
    color: tuple[int, int, int]


def ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N, K) IoU of (N, 4) and (K, 4) boxes, x0 y0 x1 y1."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area, other_area = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (boxes, others))
    return shared / np.maximum(area[:, None] + other_area[None] - shared, 1e-9)


def find_mistakes(model: runtimes.Runtime, data: str) -> Iterator[Mistake]:
    """All false positives and all missed people of a data set."""
    truth = load(data, "val")
    for entry in truth.images:
        image = runtimes.read_image(entry.path)
        found = model.infer(image)
        people = truth.annotations(entry.id)
        boxes = np.array([person["bbox"] for person in people], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        name = Path(entry.path).stem.lstrip("0")
        overlap = ious(found.boxes_xyxy, boxes)
        for score, box, shared in zip(found.scores, found.boxes_xyxy, overlap, strict=True):
            if shared.max(initial=0) < MET:
                yield Mistake(float(score), f"{name}: false, {100 * score:.0f} %", image, box, FALSE)
        sure = overlap[found.scores >= SURE]
        for person, box, shared in zip(people, boxes, sure.T, strict=True):
            if not person.get("iscrowd") and shared.max(initial=0) < MET:
                share = person["area"] / image.shape[0] / image.shape[1]
                yield Mistake(share, f"{name}: missed, {100 * share:.0f} % of the picture", image, box, MISSED)


def draw_tile(mistake: Mistake) -> np.ndarray:
    """A picture in a square with its caption: (TILE + 24, TILE, 3) uint8 RGB."""
    height, width = mistake.image.shape[:2]
    scale = TILE / max(height, width)
    small = cv2.resize(mistake.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left, top, right, bottom = (int(round(float(v) * scale)) for v in mistake.box)
    small = np.ascontiguousarray(small)
    cv2.rectangle(small, (left, top), (right, bottom), mistake.color, 2)
    tile = np.full((TILE + 24, TILE, 3), 20, np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small[:TILE, :TILE]
    cv2.putText(tile, mistake.caption, (4, TILE + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (235, 235, 235), 1, cv2.LINE_AA)
    return tile


def draw_sheet(mistakes: Sequence[Mistake]) -> np.ndarray:
    """Tiles in rows."""
    tiles = [draw_tile(mistake) for mistake in mistakes]
    while len(tiles) % COLUMNS:
        tiles.append(np.full_like(tiles[0], 20))
    rows = [np.concatenate(tiles[start : start + COLUMNS], axis=1) for start in range(0, len(tiles), COLUMNS)]
    return np.concatenate(rows)


@click.group()
def main() -> None:
    """Show the errors of the people model."""


@main.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="What prepare.py wrote.")
@click.option("--split", "splits", multiple=True, default=("val", "coco80_val", "pennfudan_val"), show_default=True)
@click.option("--model", default="people", show_default=True)
@click.option("-o", "--output", default=Path("worst.png"), show_default=True, type=click.Path(path_type=Path))
def worst(data: Path, splits: tuple[str, ...], model: str, output: Path) -> None:
    """Draw the ten worst errors."""
    mistakes: list[Mistake] = []
    with runtimes.load(model) as runtime:
        for split in splits:
            mistakes += find_mistakes(runtime, str(data / "annotations" / f"instances_{split}.json"))
    chosen = []
    for color in (FALSE, MISSED):
        of_kind = sorted((m for m in mistakes if m.color == color), key=lambda m: -m.weight)
        chosen += of_kind[:COLUMNS]
    for mistake in chosen:
        click.echo(mistake.caption)
    write_image(output, draw_sheet(chosen))
    click.echo(f"wrote {output}")


@main.command()
@click.argument("video")
@click.option("--frames", default=300, show_default=True)
@click.option("--conf", default=0.5, show_default=True, help="Score threshold.")
@click.option("--model", "models", multiple=True, default=("people",), show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Sheet of the surest ten.")
def video(video: str, frames: int, conf: float, models: tuple[str, ...], output: Path | None) -> None:
    """Draw the false positives in a video without people."""
    for model in models:
        mistakes: list[Mistake] = []
        hit = total = 0
        with runtimes.load(model) as runtime:
            for frame in islice(iter(open_source(video)), frames):
                found = runtime.infer(frame.image)
                found = found[found.scores >= conf]
                total += 1
                hit += len(found) > 0
                for score, box in zip(found.scores, found.boxes_xyxy, strict=True):
                    caption = f"frame {frame.index}: {100 * score:.0f} %"
                    mistakes.append(Mistake(float(score), caption, frame.image, box, FALSE))
        click.echo(f"{model}: {len(mistakes)} people in {hit} of {total} frames at a score of {conf} or more")
    if output is not None and mistakes:
        write_image(output, draw_sheet(sorted(mistakes, key=lambda m: -m.weight)[:10]))
        click.echo(f"wrote {output}, of {models[-1]}")


if __name__ == "__main__":
    main()

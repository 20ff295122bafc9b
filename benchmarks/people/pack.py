"""Make pictures small enough to be carried to another machine, for the imitation and the training there.

    python benchmarks/people/pack.py --data scratch/people --megabytes 50 -o scratch/pack
    python benchmarks/people/pack.py --data scratch/people --images DIR --images DIR --megabytes 60 -o scratch/pack

`--data` is what prepare.py made. The pictures of `train` (or of another split, `--train-split train_all`) and of `val`
go into images/, their annotations with names relative to that into annotations/, and backbone.pth beside them.
Pictures to train on keep their size, so that boxes and outlines stay right, and are written as JPEG of lower quality.
Pictures of `val` are copied byte by byte.

`--images` are further pictures without labels, for the imitation alone. They are scaled to a longer side of 320 px:
imitation sees crops of 128 to 256 px, so it loses little. All pictures that are written anew have one quality, the best
with which everything stays below the limit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np

LONG_SIDE = 320
"""Longer side of a picture for the imitation, in pixels."""
QUALITIES = (90, 85, 80, 75, 70, 65, 60, 50, 40, 30)
"""JPEG qualities, best first."""
SAMPLE = 100
"""Number of sampled pictures that the total size is estimated from."""
MARGIN = 0.95
"""Largest share of the limit for the estimate."""


def read_whole(file: Path) -> np.ndarray:
    """(h, w, 3) uint8 BGR."""
    return cv2.imread(str(file), cv2.IMREAD_COLOR)


def read_small(file: Path) -> np.ndarray:
    """(h, w, 3) uint8 BGR whose longer side is at most the given one."""
    picture = read_whole(file)
    scale = LONG_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def encode(picture: np.ndarray, quality: int) -> np.ndarray:
    """The bytes of a JPEG file, (n,) uint8."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data


@dataclass(frozen=True)
class Rewritten:
    """A picture that is written anew as JPEG."""

    source: Path
    target: Path
    read: Callable[[Path], np.ndarray]


def choose_quality(pictures: list[Rewritten], limit: float) -> int:
    """The best quality at which all pictures together stay below `limit` bytes, estimated from a sample."""
    sample = [picture.read(picture.source) for picture in pictures[:: max(1, len(pictures) // SAMPLE)]]
    for quality in QUALITIES:
        mean = sum(len(encode(picture, quality)) for picture in sample) / len(sample)
        if mean * len(pictures) < MARGIN * limit:
            return quality
    raise click.ClickException(
        f"{len(pictures)} pictures do not fit even at quality {QUALITIES[-1]}: raise --megabytes"
    )


def pack_split(data: Path, source: str, split: str, output: Path) -> list[tuple[Path, Path]]:
    """Write the annotations of a split with relative names.

    Returns:
        Where each picture is, and where it is to be.
    """
    record = json.loads((data / "annotations" / f"instances_{source}.json").read_text())
    moved, images = [], []
    for number, image in enumerate(record["images"]):
        file = Path(image["file_name"])
        name = f"{number:06d}{file.suffix if split == 'val' else '.jpg'}"
        # Joining keeps a name that is absolute.
        moved.append((data / "images" / file, output / "images" / split / name))
        images.append({**image, "file_name": name})
    (output / "annotations").mkdir(parents=True, exist_ok=True)
    (output / "images" / split).mkdir(parents=True, exist_ok=True)
    (output / "annotations" / f"instances_{split}.json").write_text(json.dumps({**record, "images": images}))
    return moved


def pack_data(data: Path, train_split: str, output: Path) -> tuple[list[Rewritten], int]:
    """Copy what stays as it is.

    Returns:
        The pictures that are to be written anew, and the bytes that were copied.
    """
    size = 0
    for source, target in pack_split(data, "val", "val", output):
        shutil.copy(source, target)
        size += target.stat().st_size
    shutil.copy(data / "backbone.pth", output / "backbone.pth")
    size += (output / "backbone.pth").stat().st_size
    moved = pack_split(data, train_split, "train", output)
    return [Rewritten(source, target, read_whole) for source, target in moved], size


def list_unlabelled(folders: tuple[Path, ...], output: Path) -> list[Rewritten]:
    """The JPEG files below some folders."""
    folder = output / "images" / "unlabelled"
    pictures = []
    for images in folders:
        for file in sorted(images.rglob("*.jpg")):
            pictures.append(Rewritten(file, folder / f"{len(pictures):06d}.jpg", read_small))
    if pictures:
        folder.mkdir(parents=True, exist_ok=True)
    return pictures


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--train-split", default="train", show_default=True)
@click.option("--images", type=click.Path(path_type=Path, exists=True), multiple=True)
@click.option("--megabytes", default=50.0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(data: Path, train_split: str, images: tuple[Path, ...], megabytes: float, output: Path) -> None:
    pictures, copied = pack_data(data, train_split, output)
    pictures += list_unlabelled(images, output)
    quality = choose_quality(pictures, megabytes * 1e6 - copied)
    written = 0
    for picture in pictures:
        encoded = encode(picture.read(picture.source), quality)
        picture.target.write_bytes(encoded.tobytes())
        written += len(encoded)
    click.echo(f"{len(pictures)} pictures at quality {quality}, {written / 1e6:.1f} MB; copied {copied / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

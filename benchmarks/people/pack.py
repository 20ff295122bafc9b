"""Make pictures small enough to be carried to another machine, for the imitation there.

    python benchmarks/people/pack.py --images DIR --images DIR --megabytes 50 -o scratch/pack

The pictures are scaled to a longer side of 320 px and written as JPEG at the best quality with which all of them
together stay below the limit. Imitation sees crops of 128 to 256 px, so it loses little.
"""

from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np

LONG_SIDE = 320
"""Pixels."""
QUALITIES = (90, 85, 80, 75, 70, 65, 60, 50, 40, 30)
"""Of JPEG, best first."""
SAMPLE = 100
"""Pictures from which the size of all is estimated."""
MARGIN = 0.95
"""Share of the limit that the estimate may take."""


def read_small(file: Path) -> np.ndarray:
    """(h, w, 3) uint8 BGR with the longer side that is wanted, or smaller if it was."""
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    scale = LONG_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def encode(picture: np.ndarray, quality: int) -> np.ndarray:
    """The bytes of a JPEG file, (n,) uint8."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data


def choose_quality(files: list[Path], limit: float) -> int:
    """The best quality at which a sample says that all files fit."""
    sample = [read_small(file) for file in files[:: max(1, len(files) // SAMPLE)]]
    for quality in QUALITIES:
        mean = sum(len(encode(picture, quality)) for picture in sample) / len(sample)
        if mean * len(files) < MARGIN * limit:
            return quality
    raise click.ClickException(f"{len(files)} pictures do not fit even at quality {QUALITIES[-1]}: raise --megabytes")


@click.command(help=__doc__)
@click.option("--images", type=click.Path(path_type=Path, exists=True), multiple=True, required=True)
@click.option("--megabytes", default=50.0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(images: tuple[Path, ...], megabytes: float, output: Path) -> None:
    files = [file for folder in images for file in sorted(folder.rglob("*.jpg"))]
    quality = choose_quality(files, megabytes * 1e6)
    output.mkdir(parents=True, exist_ok=True)
    written = 0
    for number, file in enumerate(files):
        data = encode(read_small(file), quality)
        (output / f"{number:06d}.jpg").write_bytes(data.tobytes())
        written += len(data)
    click.echo(f"{len(files)} pictures at quality {quality}, {written / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

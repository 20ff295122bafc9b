"""`edge-mrcnn calib`: sets of images for INT8 calibration."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from edge_mrcnn.cli.options import DATA_HELP, load_split, name_next, val_split
from edge_mrcnn.tables import counted
from runtimes.errors import UsageError


@click.group()
def command() -> None:
    """Select or record images for INT8 calibration."""


@command.command()
@click.option("--data", required=True, help=DATA_HELP)
@click.option("--val", help="COCO JSON whose images must not be selected [default: the folder's val split].")
@click.option(
    "-n", "--images", type=click.IntRange(1), default=256, show_default=True, help="Number of images to select."
)
@click.option(
    "--licence", default="as the data set", show_default=True, help="Licence of the images, for the manifest."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the selection.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("calib"),
    show_default=True,
    help="Folder of the images and their manifest.",
)
def pick(data: str, val: str | None, images: int, licence: str, seed: int, output: Path) -> None:
    """Select training images that cover all classes, object sizes, brightness and numbers of objects."""
    from edge_mrcnn.data.coverage import candidates, refuse_shared
    from quantize import picking
    from quantize.calibration import describe_image, write_manifest

    expect_empty(output)
    chosen = picking.pick(candidates(load_split(data, "train"), images, seed), images, seed)
    if others := val_split(data, val):
        refuse_shared([candidate.file for candidate, _ in chosen], others)
    entries = []
    for number, (candidate, why) in enumerate(chosen):
        file = f"images/{number:04}{candidate.file.suffix.lower()}"
        (output / "images").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(candidate.file, output / file)
        entries.append(describe_image(output, file, source=candidate.source, licence=licence, why=why))
    path = write_manifest(output, entries)
    click.echo("\n".join(coverage([candidate.facets for candidate, _ in chosen])))
    click.echo(f"wrote {path} ({counted(len(entries), 'image')})")
    name_next("quantize", "--model", "MODEL", "--calib", output)


@command.command()
@click.option("--source", required=True, help="Camera, stream or video, as in `run --source`.")
@click.option(
    "-n", "--images", type=click.IntRange(1), default=256, show_default=True, help="Number of images to keep."
)
@click.option(
    "--every", type=click.FloatRange(0), default=2.0, show_default=True, help="Minimum seconds between two kept images."
)
@click.option(
    "--novelty", type=click.FloatRange(0, 1), default=0.02, show_default=True,
    help="Minimum mean difference from every kept image, as a share of the range of pixel values.",
)  # fmt: skip
@click.option("--licence", default="own", show_default=True, help="Licence of the images, for the manifest.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("calib"),
    show_default=True,
    help="Folder of the images and their manifest.",
)
def capture(source: str, images: int, every: float, novelty: float, licence: str, output: Path) -> None:
    """Record images of your own camera; Ctrl-C stops and keeps the images so far."""
    from quantize.calibration import write_manifest
    from quantize.recording import Recorder
    from runtimes.sources import open_source

    expect_empty(output)
    frames = open_source(source)
    recorder = Recorder(output, frames.name, licence=licence, every_s=every, novelty=novelty)
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(iter(frames)) as pictures:
        for frame in pictures:
            if recorder.offer(frame) and sys.stderr.isatty():
                click.echo(f"\r{len(recorder.entries)} of {images}", err=True, nl=False)
            if len(recorder.entries) >= images:
                break
    path = write_manifest(output, recorder.entries)
    similar = f"{counted(recorder.refused, 'frame')} skipped as too similar to kept ones"
    click.echo(f"wrote {path} ({counted(len(recorder.entries), 'image')}; {similar})")
    name_next("quantize", "--model", "MODEL", "--calib", output)


def expect_empty(folder: Path) -> None:
    """Refuse a folder with content, so that two sets never mix.

    Raises:
        UsageError: If the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: expected an empty or new folder; choose another with -o")


def coverage(shown: list[frozenset[str]]) -> Iterator[str]:
    """The number of images with each facet, as lines of text."""
    counts = Counter(facet for facets in shown for facet in facets)
    width = max(map(len, counts))
    for facet, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"{facet:<{width}}{count:>6}"

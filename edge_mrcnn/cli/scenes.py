"""`edge-mrcnn scenes`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_mrcnn.cli.options import image_size, name_next
from edge_mrcnn.cli.outputs import choose_output, overwrite_option


@click.command()
@click.option("--train", type=int, default=1200, show_default=True, help="Number of training scenes.")
@click.option(
    "--val", type=int, default=150, show_default=True, help="Number of validation scenes, which show other objects."
)
@click.option(
    "--imgsz", callback=image_size, default="320", show_default=True, help="Size of a scene in pixels, S or HxW."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Random seed: the same seed makes the same scenes."
)
@click.option(
    "--video", type=click.Path(path_type=Path), help="Also write a video with a moving camera to this .mp4 file."
)
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Length of the video in seconds.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("scenes"),
    show_default=True,
    help="Folder of the data set.",
)
@overwrite_option
def command(
    train: int,
    val: int,
    imgsz: tuple[int, int],
    seed: int,
    video: Path | None,
    seconds: float,
    output: Path,
    overwrite: bool,
) -> None:
    """Generate a data set: cut-outs of real objects on real surfaces. Needs no download."""
    from edge_mrcnn.data.scenes import make_dataset, render_video

    output = choose_output(output, overwrite=overwrite)
    if video is not None:
        video = choose_output(video, overwrite=overwrite, option="--video")
    with click.progressbar(length=train + val, label="scenes", file=sys.stderr) as bar:
        make_dataset(output, train=train, val=val, size_hw=imgsz, seed=seed, progress=lambda *_: bar.update(1))
    click.echo(
        f"wrote {output}: {train} training scenes, {val} validation scenes, and the photographs of the `real` split"
    )
    if video is not None:
        render_video(video, seconds=seconds, seed=seed)
        click.echo(f"wrote {video}")
    name_next("train", "--data", output, "--imgsz", f"{imgsz[0]}x{imgsz[1]}")

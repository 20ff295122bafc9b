"""Make all files of the people model from one checkpoint.

    python models/people/build.py --weights runs/people/best.pt --data scratch/people

It uses the commands of the command line. It writes the checkpoint in half precision, INT8 files for three runtimes made
from it, the list of calibration images, and the figures in README.md, which is the model card. All files are sealed.
DATA is laid out as `benchmarks/people/prepare.py` writes it; its images are not copied.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[1] / "benchmarks" / "people")]

import measure  # noqa: E402

from edge_mrcnn.cli import group  # noqa: E402
from edge_mrcnn.data.calibration import load_calibration  # noqa: E402
from edge_mrcnn.model.checkpoint import load_checkpoint, save_checkpoint, seal_checkpoint  # noqa: E402
from runtimes.formats import files_of, suffixes  # noqa: E402
from runtimes.model_file import ModelFile  # noqa: E402

PACKAGE = HERE / "edge_mrcnn_people"
"""Files for devices."""
CHECKPOINT = HERE / "weights" / "edge_mrcnn_people_weights" / "people.pt"
"""File to start a training from."""
NAME = "people"
CARD = HERE / "README.md"
FIGURES = HERE / "figures.json"
CALIBRATION = HERE / "calibration.json"
BEGIN, END = "<!-- figures: written by build.py -->", "<!-- end of figures -->"
LIMIT_MB = 14
"""Largest total size of the files for devices before compression; larger files come from a wrong checkpoint."""


@click.command()
@click.option("--weights", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--calib-images", default=256, show_default=True, help="Pictures of the train split for INT8.")
@click.option("--keep-float", default="", help="Blocks that stay in float, as of `export`.")
@click.option("--report", type=click.Path(path_type=Path), help="Also compare the files with the checkpoint, here.")
@click.option("--skip-figures", is_flag=True, help="Leave the card as it is.")
def build(
    weights: Path, data: Path, calib_images: int, keep_float: str, report: Path | None, skip_figures: bool
) -> None:  # fmt: skip
    """Make checkpoint, INT8 files, calibration list, report and card."""
    checkpoint = write_checkpoint(weights)
    write_int8(checkpoint, data, calib_images, keep_float)
    write_calibration(data, calib_images)
    check_size()
    if not skip_figures:
        write_figures(data)
    if report is not None:
        write_report(data, report)


def write_checkpoint(weights: Path) -> Path:
    """The checkpoint in half precision, without paths of the training machine."""
    trained = load_checkpoint(weights)
    save_checkpoint(CHECKPOINT, replace(trained, training=without_paths(trained.training)), is_half=True)
    seal_checkpoint(CHECKPOINT)
    click.echo(f"wrote {CHECKPOINT.name} ({CHECKPOINT.stat().st_size / 1e6:.1f} MB)")
    return CHECKPOINT


def without_paths(record: object) -> object:
    """A record in which each path is shortened to the file name."""
    if isinstance(record, dict):
        return {key: without_paths(value) for key, value in record.items()}
    if isinstance(record, list):
        return [without_paths(value) for value in record]
    return Path(record).name if isinstance(record, str) and "/" in record else record


def write_int8(checkpoint: Path, data: Path, calib_images: int, keep_float: str) -> None:
    """The INT8 file of each runtime; their FP32 originals are not kept."""
    with TemporaryDirectory() as folder:
        arguments = ["export", "--weights", checkpoint, "--int8", "--calib", data, "--calib-images", calib_images]
        type_in(*arguments, *(("--keep-float", keep_float) if keep_float else ()), "-o", folder)
        for suffix in suffixes():
            made = ModelFile(Path(folder, f"{NAME}-int8{suffix}"))
            for file in made.files:
                shutil.copy(file, PACKAGE / f"{NAME}{file.suffix}")


def write_calibration(data: Path, count: int) -> None:
    """Names and hashes of the calibration pictures: their licences seldom allow copies."""
    pictures = load_calibration(str(data)).choose(count)
    listed = []
    for path in pictures:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        listed.append({"set": path.parents[2].name, "file": path.name, "sha256": digest})
    CALIBRATION.write_text(json.dumps({"images": listed}, indent=1) + "\n", encoding="utf-8")
    click.echo(f"wrote {CALIBRATION}: {len(listed)} pictures")


def check_size() -> None:
    """Print the size of the package, and fail if it is above the limit."""
    total = sum(file.stat().st_size for file in PACKAGE.rglob("*") if file.is_file() and file.suffix != ".pyc")
    for suffix in suffixes():
        size = sum(file.stat().st_size for file in files_of(PACKAGE / f"{NAME}{suffix}"))
        click.echo(f"{NAME}{suffix}: {size / 1e6:.1f} MB")
    click.echo(f"all files: {total / 1e6:.1f} MB")
    if total > LIMIT_MB * 1e6:
        raise click.ClickException(f"{PACKAGE}: {total / 1e6:.1f} MB, expected at most {LIMIT_MB}")


def write_figures(data: Path) -> None:
    """Measure every file on every set, and put the tables into the card."""
    models = [CHECKPOINT, *(PACKAGE / f"{NAME}{suffix}" for suffix in suffixes())]
    rows = measure.measure_all(models, data, sets=tuple(measure.SETS), changes=("none",))
    rows += measure.measure_all(
        [PACKAGE / f"{NAME}.tflite"], data, sets=tuple(measure.SETS), changes=("night", "small")
    )
    FIGURES.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    text = CARD.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    CARD.write_text(f"{head}{BEGIN}\n\n{measure.table(rows)}\n{END}{tail}", encoding="utf-8")
    click.echo(f"wrote {FIGURES.name} and the tables of {CARD.name}")


def write_report(data: Path, output: Path) -> None:
    """The report of every file against the checkpoint."""
    models = [PACKAGE / f"{NAME}{suffix}" for suffix in suffixes()]
    extras = []
    for label, split in measure.SETS.items():
        if split != "val":
            extras += ["--extra", f"{label}={data}/annotations/instances_{split}.json"]
    main = data / "annotations" / "instances_val.json"
    arguments = ["--models", *models, "--data", main, *extras, "--name", "People", "-o", output, "--overwrite"]
    type_in("report", "--reference", CHECKPOINT, *arguments)


def type_in(*words: object) -> None:
    """Run a command of edge-mrcnn from the command line."""
    group.main([str(word) for word in words], standalone_mode=False)


if __name__ == "__main__":
    build()

"""`edge-mrcnn data`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_mrcnn.cli.extras import expect_installed
from edge_mrcnn.cli.options import image_size, make_progress, name_next, say_layout
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from runtimes.errors import GateError

if TYPE_CHECKING:
    from edge_mrcnn.data.records import Records
    from edge_mrcnn.data_check import DataCheck

CROWDS_HELP = "Treat crowd regions as single objects; brush tools mark single objects this way."


@click.group()
def command() -> None:
    """Check or convert a data set."""


@command.command()
@click.argument("data")
@click.option("--val", help="Validation split [default: the folder's val split, if there is one].")
@click.option("--imgsz", callback=image_size, default="320", show_default=True, help="Input size of the model.")
@click.option("--decode", is_flag=True, help="Decode every image, instead of reading only its header and last bytes.")
@click.option(
    "--similar/--no-similar",
    default=None,
    help="Search the splits for near-duplicates [default: on for up to 20,000 images].",
)
@click.option("--learn-crowds", is_flag=True, help=CROWDS_HELP)
@click.option("--fix", type=click.Path(path_type=Path), help="Write a corrected COCO JSON to this new file.")
@click.option("--markdown", is_flag=True, help="Also write data.md.")
@click.option("--json", "as_json", is_flag=True, help="Also write data.json.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs/data"),
    show_default=True,
    help="Folder of the report.",
)
@overwrite_option
def check(
    data: str, val: str | None, imgsz: tuple[int, int], decode: bool, similar: bool | None, learn_crowds: bool,
    fix: Path | None, markdown: bool, as_json: bool, output: Path, overwrite: bool,
) -> None:  # fmt: skip
    """Check a data set for faults. Exit code 3 means that it has errors to fix before training.

    DATA is a COCO JSON, or a folder in the layout of COCO, Roboflow, CVAT, FiftyOne, YOLO, labelme or Pascal VOC.
    """
    expect_installed("pycocotools", "jinja2")
    from edge_mrcnn.data_check import check_data
    from edge_mrcnn.data_check.wording import to_lines, verdict

    output = choose_output(output, [data, val], overwrite=overwrite)
    if fix is not None:
        fix = choose_output(fix, [data, val], overwrite=overwrite, option="--fix")
    say_layout(data)
    checked = check_data(
        data, val, image_size_hw=imgsz, decode=decode, similar=similar, learn_crowds=learn_crowds,
        progress=make_progress(),
    )  # fmt: skip
    click.echo("\n".join(to_lines(checked)))
    _write_pages(checked, output, markdown=markdown, as_json=as_json)
    if fix is not None:
        data, val = _write_fixed(checked.records, fix)
    errors = checked.count("error")
    if errors:
        raise GateError(verdict(checked))
    click.echo(verdict(checked))
    name_next("train", "--data", data, *(("--val", val) if val else ()))


def _write_pages(checked: DataCheck, output: Path, *, markdown: bool, as_json: bool) -> None:
    from edge_mrcnn.data_check.page import to_html
    from edge_mrcnn.data_check.wording import to_json, to_markdown

    pages = {"data.html": to_html}
    pages |= {"data.md": to_markdown} if markdown else {}
    pages |= {"data.json": to_json} if as_json else {}
    output.mkdir(parents=True, exist_ok=True)
    for name, render in pages.items():
        (output / name).write_text(render(checked), encoding="utf-8")
    click.echo(f"wrote {', '.join(str(output / name) for name in pages)}")


def _write_fixed(splits: Sequence[Records], path: Path) -> tuple[str, str | None]:
    """One split under the name that was given, several with their names behind it; returns what --data and --val
    then are."""
    from edge_mrcnn.data.writing import fix

    files = []
    for records in splits:
        own = path if len(splits) == 1 else path.with_name(f"{path.stem}_{records.split}{path.suffix}")
        written = fix(records, own)
        click.echo(f"wrote {own} ({written.objects} objects; {written.removed} that cannot be used are not in it)")
        files.append(str(own))
    return files[0], files[1] if len(files) > 1 else None


@command.command()
@click.argument("source")
@click.option("--learn-crowds", is_flag=True, help=CROWDS_HELP)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Output folder, new or empty.")
def convert(source: str, learn_crowds: bool, output: Path) -> None:
    """Convert a data set of any supported layout to COCO JSON with an image folder.

    SOURCE is a folder or file in any layout that --data accepts. Images are hard-linked if possible, else copied.
    """
    from edge_mrcnn.data.writing import convert as convert_data

    say_layout(source)
    for written in convert_data(source, output, learn_crowds=learn_crowds, progress=make_progress()):
        click.echo(f"wrote {written.path} ({written.images} images, {written.objects} objects)")
    name_next("data", "check", output)

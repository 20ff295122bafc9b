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

CROWDS_HELP = "Crowd regions are single objects, as brush tools mark them."


@click.group()
def command() -> None:
    """Look after data sets."""


@command.command()
@click.argument("data")
@click.option("--val", help="The validation split [default: the folder's own, if it has one].")
@click.option("--imgsz", callback=image_size, default="320", show_default=True, help="Input size of the model.")
@click.option("--decode", is_flag=True, help="Decode every picture, instead of reading headers and last bytes.")
@click.option(
    "--similar/--no-similar",
    default=None,
    help="Look for nearly equal pictures in two splits [default: among up to 20,000 pictures].",
)
@click.option("--learn-crowds", is_flag=True, help=CROWDS_HELP)
@click.option("--fix", type=click.Path(path_type=Path), help="Write what can be mended to this new COCO JSON.")
@click.option("--markdown", is_flag=True, help="Also write data.md.")
@click.option("--json", "as_json", is_flag=True, help="Also write data.json.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/data"), show_default=True)
@overwrite_option
def check(
    data: str, val: str | None, imgsz: tuple[int, int], decode: bool, similar: bool | None, learn_crowds: bool,
    fix: Path | None, markdown: bool, as_json: bool, output: Path, overwrite: bool,
) -> None:  # fmt: skip
    """Find every fault of a data set; exit 3 if something must be fixed.

    DATA is COCO JSON, or a folder as COCO, Roboflow, CVAT, FiftyOne, YOLO, labelme or Pascal VOC lay it out.
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
        _write_fixed(checked.records, fix)
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


def _write_fixed(splits: Sequence[Records], path: Path) -> None:
    """One split under the name that was given, several with their names behind it."""
    from edge_mrcnn.data.writing import fix

    for records in splits:
        own = path if len(splits) == 1 else path.with_name(f"{path.stem}_{records.split}{path.suffix}")
        written = fix(records, own)
        click.echo(f"wrote {own} ({written.objects} objects; {written.removed} that cannot be used are not in it)")


@command.command()
@click.argument("source")
@click.option("--learn-crowds", is_flag=True, help=CROWDS_HELP)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="New or empty folder.")
def convert(source: str, learn_crowds: bool, output: Path) -> None:
    """Write a data set of any layout as COCO JSON, its pictures beside it.

    SOURCE is a folder or file in any layout that --data takes. Pictures are linked where that is possible, else copied.
    """
    from edge_mrcnn.data.writing import convert as convert_data

    say_layout(source)
    for written in convert_data(source, output, learn_crowds=learn_crowds, progress=make_progress()):
        click.echo(f"wrote {written.path} ({written.images} images, {written.objects} objects)")
    name_next("data", "check", output)

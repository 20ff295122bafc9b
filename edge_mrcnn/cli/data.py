"""`edge-mrcnn data`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_mrcnn.cli.options import image_size, name_next
from runtimes.errors import GateError


@click.group()
def command() -> None:
    """Look after data sets."""


@command.command()
@click.argument("data")
@click.option("--val", help="COCO JSON of the validation split [default: the folder's own, if it has one].")
@click.option("--imgsz", callback=image_size, default="320", show_default=True, help="Input size of the model.")
@click.option("--decode", is_flag=True, help="Decode every picture, instead of reading headers and last bytes.")
@click.option(
    "--similar/--no-similar",
    default=None,
    help="Look for nearly equal pictures in two splits [default: among up to 20,000 pictures].",
)
@click.option("--markdown", is_flag=True, help="Also write data.md.")
@click.option("--json", "as_json", is_flag=True, help="Also write data.json.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/data"), show_default=True)
def check(
    data: str, val: str | None, imgsz: tuple[int, int], decode: bool, similar: bool | None, markdown: bool,
    as_json: bool, output: Path,
) -> None:  # fmt: skip
    """Find every fault of a COCO data set; exit 3 if something must be fixed.

    DATA is a COCO JSON file, or a folder with annotations/instances_{train,val}.json.
    """
    from edge_mrcnn.data_check import check_data
    from edge_mrcnn.data_check.page import to_html
    from edge_mrcnn.data_check.wording import to_json, to_lines, to_markdown, verdict

    checked = check_data(data, val, image_size_hw=imgsz, decode=decode, similar=similar, progress=_tell)
    click.echo("\n".join(to_lines(checked)))
    output.mkdir(parents=True, exist_ok=True)
    pages = {"data.html": to_html}
    pages |= {"data.md": to_markdown} if markdown else {}
    pages |= {"data.json": to_json} if as_json else {}
    for name, render in pages.items():
        (output / name).write_text(render(checked), encoding="utf-8")
    click.echo(f"wrote {', '.join(str(output / name) for name in pages)}")
    if checked.count("error"):
        raise GateError(verdict(checked))
    click.echo(verdict(checked))
    name_next("train", "--data", data, *(("--val", val) if val else ()))


def _tell(what: str, done: int, total: int) -> None:
    """One line on a terminal that is rewritten; silence elsewhere."""
    if sys.stderr.isatty() and (done % 100 == 0 or done == total):
        click.echo(f"\r\033[K{what}: {done}/{total}", err=True, nl=done == total)

"""Options that several verbs share, and functions that read them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.data.files import read_lines
from edge_mrcnn.data.loading import describe_layout, has_split, load
from runtimes.errors import DataError, MissingFileError, UsageError
from runtimes.progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])


TILE_OPTIONS = (
    click.option(
        "--tile", type=click.IntRange(32), metavar="PIXELS",
        help="Also run the model on tiles with this side, to find small objects in large images; each tile costs one "
        "inference.",
    ),
    click.option(
        "--overlap", type=click.FloatRange(0, 0.9), default=0.2, show_default=True,
        help="Minimum overlap of neighbouring tiles, as a share of their side.",
    ),
)  # fmt: skip


def tile_options(command: Command) -> Command:
    """Add --tile and --overlap to a command."""
    decorated: Any = command
    for option in reversed(TILE_OPTIONS):
        decorated = option(decorated)
    result: Command = decorated
    return result


def image_size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse "S" or "HxW" into (height, width)."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) > 2 or not all(p.isdecimal() for p in parts):
        raise UsageError(f"--imgsz {value}: expected S or HxW, such as 320 or 320x448")
    sides = [int(p) for p in parts]
    return sides[0], sides[-1]


def read_class_names(value: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and category ids of classes, of any file that lists them.

    Args:
        value: A text file with one name per line, a JSON list, or the `names` of a `data.yaml`, all numbered from 1; or
            a COCO file, of which the categories are taken with their ids.

    Raises:
        MissingFileError: If there is no such file.
        DataError: If it is JSON without categories, YAML without names, or not in UTF-8.
    """
    from edge_mrcnn.data.layouts import yolo

    path = Path(value)
    if not path.is_file():
        raise MissingFileError(
            f"--classes {value}: no such file; expected one with a class name per line, or COCO JSON"
        )
    if path.suffix == ".json":
        return _names_in_json(path)
    is_yaml = path.suffix in (".yaml", ".yml")
    names = yolo.class_names(yolo.read_yaml(path)) if is_yaml else read_lines(path)
    return tuple(names), tuple(range(1, len(names) + 1))


def _names_in_json(path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    try:
        record = json.loads(path.read_bytes())
        if isinstance(record, list) and all(isinstance(name, str) for name in record):
            return tuple(record), tuple(range(1, len(record) + 1))
        by_id = {int(category["id"]): str(category["name"]) for category in record["categories"]}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"--classes {path}: expected COCO data with categories, or a list of names") from error
    return tuple(by_id[i] for i in sorted(by_id)), tuple(sorted(by_id))


def comma_list(text: str) -> tuple[str, ...]:
    """Parse "a, b" into ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def int_list(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Parse "1, 2" into (1, 2); nothing into ()."""
    parts = comma_list(value or "")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{parameter.opts[0]} {value}: expected numbers from 1, such as 1,2,4")
    return tuple(dict.fromkeys(map(int, parts)))


def split_paths(given: Sequence[str], option: str = "--models") -> list[Path]:
    """Model files, each given alone or separated by commas; a file whose own name has a comma is one file.

    Raises:
        UsageError: If there are none, or one is given twice.
    """
    paths = [Path(part) for item in given for part in ([item] if Path(item).exists() else item.split(",")) if part]
    if not paths:
        raise UsageError(f"{option}: expected at least one model file")
    if twice := sorted({str(path) for path in paths if paths.count(path) > 1}):
        raise UsageError(f"{option}: {', '.join(twice)} is given more than once")
    return paths


DATA_HELP = "COCO JSON, or a folder in the layout of COCO, Roboflow, CVAT, FiftyOne, YOLO, labelme or Pascal VOC."
VAL_HELP = "Validation data for the AP of each epoch.  [default: the folder's val split, if there is one]"


def say_layout(data: str) -> None:
    """Print the layout of a folder."""
    if Path(data).is_dir():
        click.echo(f"{data}: {describe_layout(data)}", err=True)


def load_split(data: str, split: str, *, learn_crowds: bool = False) -> CocoData:
    """A split of --data; prints the layout of a folder."""
    say_layout(data)
    return load(data, split, learn_crowds=learn_crowds)


def val_split(data: str, val: str | None = None, *, learn_crowds: bool = False) -> CocoData | None:
    """The data of --val, or else the val split of --data; None if there is none."""
    if val:
        return load(val, "val", learn_crowds=learn_crowds)
    return load(data, "val", learn_crowds=learn_crowds) if has_split(data, "val") else None


def name_next(*arguments: object, err: bool = False) -> None:
    """Print the next command, quoted for a shell; to stderr if standard output is used for data."""
    click.echo(f"next: edge-mrcnn {shlex.join(map(str, arguments))}", err=err)


def make_progress() -> Progress:
    """Progress on stderr: one line that is rewritten in a terminal, one line per finished task elsewhere."""
    is_terminal = sys.stderr.isatty()

    def tell(what: str, done: int, total: int) -> None:
        is_last = done == total
        if is_terminal:
            click.echo(f"\r\033[K{what}: {done}/{total}", err=True, nl=is_last)
        elif is_last:
            click.echo(f"{what}: {total}", err=True)

    return tell

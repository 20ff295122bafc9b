"""What several verbs share in reading their options."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edge_mrcnn.data.coco import CocoData, load_coco
from runtimes.errors import MissingFileError, UsageError


def image_size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse "S" or "HxW" into (height, width)."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) > 2 or not all(p.isdecimal() for p in parts):
        raise UsageError(f"--imgsz {value}: expected S or HxW, such as 320 or 320x448")
    sides = [int(p) for p in parts]
    return sides[0], sides[-1]


def comma_list(text: str) -> tuple[str, ...]:
    """Parse "a, b" into ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def val_split(data: str) -> CocoData | None:
    """The val split of a data folder; None where there is none or `data` is one file."""
    try:
        return load_coco(data, "val") if Path(data).is_dir() else None
    except MissingFileError:
        return None


def name_next(*arguments: object) -> None:
    """Print the command to type next, quoted for a shell."""
    click.echo(f"next: edge-mrcnn {shlex.join(map(str, arguments))}")

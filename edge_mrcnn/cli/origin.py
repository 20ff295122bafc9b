"""`--config` and `--classes`: what an imported checkpoint of another project does not contain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from edge_mrcnn.cli.config_file import load_config
from edge_mrcnn.cli.options import read_class_names
from edge_mrcnn.model.importers.origin import Origin

FOREIGN = (".yaml", ".yml", ".py")
"""Suffixes of the configurations of Detectron2 and MMDetection; any other file is TOML with options."""
KEY = "edge_mrcnn.origin"
"""Key in a context for the given values."""

Command = TypeVar("Command", bound=Callable[..., object])


def take_config(ctx: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> None:
    """Callback of --config: a TOML file gives options, another project's file belongs to its checkpoint."""
    for path in paths:
        if path.suffix in FOREIGN:
            ctx.meta[f"{KEY}.config"] = path
        else:
            load_config(ctx, parameter, path)


def take_classes(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Callback of --classes."""
    ctx.meta[f"{KEY}.classes"] = read_class_names(value) if value else None


CONFIG_OPTION = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=take_config,
    help=(
        "TOML file with any of these options, such as epochs = 12; the command line takes precedence. For a Detectron2 "
        "or MMDetection checkpoint: its config.yaml or .py. Repeatable."
    ),
)
CLASSES_OPTION = click.option(
    "--classes",
    expose_value=False,
    callback=take_classes,
    help="File with the class names of an imported checkpoint: one per line, or a COCO JSON.",
)


def origin_options(command: Command) -> Command:
    """Add `--config` and `--classes`; `given_origin` returns their values."""
    return CONFIG_OPTION(CLASSES_OPTION(command))


def given_origin() -> Origin:
    """What this command's options say about imported checkpoints."""
    meta = click.get_current_context().meta
    names, ids = meta.get(f"{KEY}.classes") or (None, None)
    return Origin(config=meta.get(f"{KEY}.config"), classes=names, category_ids=ids)


def as_own_file(path: Path, folder: Path) -> Path:
    """Save an imported checkpoint in our own format, which every process can open without `--config` and `--classes`.

    Returns:
        The file that was written; `path` if neither option was given, or if it is no checkpoint.
    """
    from edge_mrcnn.measure.files import is_checkpoint

    origin = given_origin()
    if origin == Origin() or not is_checkpoint(path):
        return path
    from edge_mrcnn.model.checkpoint import load_checkpoint, save_checkpoint

    own = folder / f"{path.stem}-imported.pt"
    save_checkpoint(own, load_checkpoint(path, origin))
    click.echo(f"wrote {own}, which needs neither --config nor --classes", err=True)
    return own

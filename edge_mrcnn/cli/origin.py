"""Options that say what a checkpoint of another project does not say itself: `--config` and `--classes`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from edge_mrcnn.cli.config_file import load_config
from edge_mrcnn.cli.options import read_class_names
from edge_mrcnn.model.importers.origin import Origin

FOREIGN = (".yaml", ".yml", ".py")
"""Suffixes of the configurations of Detectron2 and MMDetection; any other is a TOML file with options."""
KEY = "edge_mrcnn.origin"
"""Where a context keeps what was given."""

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
        "TOML file with any of these options, each a key: epochs = 12. The command line wins. Or, of a checkpoint of "
        "theirs, Detectron2's config.yaml or MMDetection's .py; repeatable."
    ),
)
CLASSES_OPTION = click.option(
    "--classes",
    expose_value=False,
    callback=take_classes,
    help="Class names of a checkpoint of another project: a line each, or a COCO JSON file.",
)


def origin_options(command: Command) -> Command:
    """Add `--config` and `--classes`; what they say is asked for by `given_origin`."""
    return CONFIG_OPTION(CLASSES_OPTION(command))


def given_origin() -> Origin:
    """What the user says of checkpoints of other projects in this command."""
    meta = click.get_current_context().meta
    names, ids = meta.get(f"{KEY}.classes") or (None, None)
    return Origin(config=meta.get(f"{KEY}.config"), classes=names, category_ids=ids)


def as_own_file(path: Path, folder: Path) -> Path:
    """A checkpoint that the user said something of, as one of ours in a folder, which every process can open.

    Returns:
        The file that was written, or `path` where nothing was said or it is no checkpoint.
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

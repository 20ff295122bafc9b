"""A TOML file with the options of a command: each long flag without its hyphens is a key.

model = "best-int8.onnx"
source = ["env:DOOR_URL"]
web = ":8080"
line = ["gate=0,0.5,1,0.5"]
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from runtimes.errors import MissingFileError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_KEY = "edge_mrcnn.config"
"""Where a click context keeps the path of --config."""
EAGER = ("config", "help")
"""Options that a file cannot set."""


def read_config(path: Path, command: click.Command) -> dict[str, Any]:
    """Read the options of a command.

    Args:
        path: The file.
        command: The command.

    Returns:
        Name of each parameter -> its value, as `click.Context.default_map` takes it.

    Raises:
        MissingFileError: If there is no such file.
        UsageError: If it is not valid TOML, or names an option that the command does not have.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"--config {path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {path}: not a valid TOML file: {error}") from None
    return match_options(values, command, f"--config {path}")


def match_options(values: Mapping[str, Any], command: click.Command, where: str) -> dict[str, Any]:
    """Translate the keys of a file to the names of a command's parameters.

    Raises:
        UsageError: If a key is not an option, or a value is a table.
    """
    options = find_options(command)
    by_name = {str(option.name): option for option in options.values()}
    matched = {}
    for key, value in values.items():
        option = options.get(key.replace("_", "-")) or by_name.get(key)
        if option is None:
            close = difflib.get_close_matches(key.replace("_", "-"), options, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"{where}: {command.name} has no option {key!r}{hint}")
        if isinstance(value, dict):
            raise UsageError(f"{where}: {key}: expected a value, not a table")
        matched[str(option.name)] = [value] if option.multiple and not isinstance(value, list) else value
    return matched


def find_options(command: click.Command) -> dict[str, click.Option]:
    """Long flag without hyphens -> option, for options that a file can set."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    flags = {flag.removeprefix("--"): option for option in options for flag in option.opts if flag.startswith("--")}
    return {flag: option for flag, option in flags.items() if flag not in EAGER}


def write_config(path: Path, values: Mapping[str, Any], remark: str) -> None:
    """Write options for `read_config`. Only the owner can read the file: it may hold secrets.

    Args:
        path: The file; its folder is made.
        values: Flag -> text, number, truth value or list of them.
        remark: First line of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lines = [f"# {remark}", *(f"{key} = {_format(value)}" for key, value in values.items())]
    # An existing file would keep its mode. A new one is private from the start.
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    temporary.replace(path)


def _format(value: Any) -> str:
    """A value as TOML; its texts and lists are the same as in JSON."""
    return json.dumps(value, ensure_ascii=False)


def load_config(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Callback of --config: its values become the defaults of the other options."""
    if path is not None:
        ctx.default_map = {**(ctx.default_map or {}), **read_config(path, ctx.command)}
        ctx.meta[CONFIG_KEY] = path
        _check_mode(path)
    return path


def _check_mode(path: Path) -> None:
    if os.name == "posix" and path.stat().st_mode & 0o077 and "://" in path.read_text(encoding="utf-8"):
        click.echo(
            f"warning: --config {path}: other users can read this file; if it holds a password, run chmod 600 {path}",
            err=True,
        )

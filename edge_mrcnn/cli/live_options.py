"""The options of `run` from the settings of the live loop and of each of its outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_mrcnn.cli.config_file import load_config
from edge_mrcnn.cli.credentials import PrivateUrl, Secret
from edge_mrcnn.live.logs import LEVELS, set_level
from edge_mrcnn.live.option_spec import OptionSpec, flag_name, options_of
from edge_mrcnn.live.settings import all_settings, make_settings

Command = TypeVar("Command", bound=Callable[..., Any])

TYPES: dict[str, Any] = {
    "text": str,
    "path": click.Path(path_type=Path),
    "file": click.Path(path_type=Path, dir_okay=False),
    "private url": PrivateUrl(),
    "secret": Secret(),
}
"""Kind of an option -> click's type; numbers and switches are made from the details."""

LAST = (
    click.option(
        "--log-level", type=click.Choice(LEVELS), expose_value=False,
        callback=lambda ctx, parameter, level: set_level(level) if level else None,
        help="Lowest level of log messages on stderr.",
    ),
    click.option(
        "--config", type=click.Path(path_type=Path, dir_okay=False), is_eager=True, expose_value=False,
        callback=load_config, help="TOML file with any of these options, such as web = \":8080\".",
    ),
)  # fmt: skip


def live_options(command: Command) -> Command:
    """Add the options; the command gets all their values as `settings`."""
    specs = [one for settings_type in all_settings() for one in options_of(settings_type)]
    names = [name for name, _, _ in specs]

    @wraps(command)
    def collect(*args: Any, **values: Any) -> Any:
        chosen = {name: values.pop(name) for name in names}
        return command(*args, settings=make_settings(**chosen), **values)

    decorated: Any = collect
    for option in reversed([*(make_option(*one) for one in specs), *LAST]):
        decorated = option(decorated)
    result: Command = decorated
    return result


def make_option(name: str, default: Any, spec: OptionSpec) -> Callable[[Any], Any]:
    """The option of one field."""
    flag = flag_name(name, spec)
    if spec.kind == "switch":
        return click.option(flag, name, is_flag=True, help=spec.help)
    is_multiple = isinstance(default, tuple)
    return click.option(
        flag, name, type=click_type(spec), multiple=is_multiple, default=None if is_multiple else default,
        metavar=spec.metavar, show_default=spec.shows_default, help=spec.help,
    )  # fmt: skip


def click_type(spec: OptionSpec) -> Any:
    """The click type of an option."""
    if spec.kind == "number":
        return click.FloatRange(spec.low, spec.high, min_open=spec.is_above)
    if spec.kind == "whole":
        return click.IntRange(
            None if spec.low is None else int(spec.low), None if spec.high is None else int(spec.high)
        )
    if spec.kind == "choice":
        return click.Choice(spec.choices)
    return TYPES[spec.kind]

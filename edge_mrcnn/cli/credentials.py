"""Secrets of the command line and of configuration files: named there, kept elsewhere.

Every user of a machine can read the arguments of its processes, so a secret is better written as `env:NAME`, the value
of an environment variable, or `file:PATH`, the content of a file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from runtimes.errors import UnavailableError, UsageError
from runtimes.redaction import find_secrets, hide

if TYPE_CHECKING:
    TextType = click.ParamType[str]
else:
    TextType = click.ParamType  # not generic at run time in older versions of click


_REFERENCE = re.compile(r"(?P<label>[A-Za-z][\w .-]*=)?(?P<kind>env|file):(?P<name>(?!//).+)")
"""What stands for a secret; a source may have its label before it. `file://...` is an address."""


def resolve(text: str) -> str:
    """The value that `[LABEL=]env:NAME` or `[LABEL=]file:PATH` stands for; any other text as it is.

    Raises:
        UsageError: If there is no such variable, or the file is empty.
        UnavailableError: If the file cannot be read; its disk may come later.
    """
    match = _REFERENCE.fullmatch(text)
    if not match:
        return text
    value = _read(Path(match["name"])) if match["kind"] == "file" else os.environ.get(match["name"])
    if not value:
        raise UsageError(f"{text}: this environment variable is not set or empty")
    return (match["label"] or "") + value


def _read(path: Path) -> str:
    try:
        path = path.expanduser()
    except RuntimeError:
        raise UsageError(f"file:{path}: this user has no home folder; give an absolute path") from None
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(
            f"file:{path}: cannot be read: {getattr(error, 'strerror', 'not a text file')}"
        ) from None
    if not value:
        raise UsageError(f"file:{path}: the file is empty")
    return value


class Url(TextType):
    """A text that may hold a password, such as the URL of a camera. The password is hidden in all later output."""

    name = "text"

    def convert(self, value: str, parameter: click.Parameter | None, ctx: click.Context | None) -> str:
        text = resolve(value)
        hide(*find_secrets(text))
        return text


class PrivateUrl(Url):
    """A URL whose password may not stand on the command line."""

    def convert(self, value: str, parameter: click.Parameter | None, ctx: click.Context | None) -> str:
        if find_secrets(value) and _is_typed(parameter, ctx):
            raise UsageError(
                f"{_flag(parameter)}: all users of this machine can read a password on the command line; "
                "use env:NAME, file:PATH or --config FILE"
            )
        return super().convert(value, parameter, ctx)


class Secret(Url):
    """A secret as such, such as a token."""

    def convert(self, value: str, parameter: click.Parameter | None, ctx: click.Context | None) -> str:
        text = resolve(value)
        hide(text)
        if text == value and _is_typed(parameter, ctx):
            click.echo(
                f"warning: {_flag(parameter)}: all users of this machine can read it on the command line; "
                "use env:NAME, file:PATH or --config FILE",
                err=True,
            )
        return text


def _is_typed(parameter: click.Parameter | None, ctx: click.Context | None) -> bool:
    """Whether a value comes from the command line."""
    if ctx is None or parameter is None or parameter.name is None:
        return False
    return ctx.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE


def _flag(parameter: click.Parameter | None) -> str:
    return parameter.opts[0] if parameter else "value"

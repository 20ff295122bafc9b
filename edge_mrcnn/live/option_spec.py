"""Command-line options from fields of settings dataclasses: help, kind, range and names.

This module does not depend on a command-line library; `edge_mrcnn.cli.live_options` makes the options.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Kind = Literal["text", "number", "whole", "switch", "choice", "path", "file", "private url", "secret"]


@dataclass(frozen=True, kw_only=True)
class OptionSpec:
    """The option of one field."""

    help: str
    kind: Kind = "text"
    """"path" is a file or folder, "file" only a file; both are written to. "switch" is a flag. "whole" is an
    integer."""
    choices: tuple[str, ...] = ()
    """The allowed values of a "choice"."""
    name: str = ""
    """Long flag without hyphens; the name of the field by default."""
    metavar: str | None = None
    low: float | None = None
    """Minimum."""
    high: float | None = None
    """Maximum."""
    is_above: bool = False
    """Whether a number must be greater than `low`."""
    shows_default: bool = False
    """Whether the help shows the default."""


def option(default: Any, help: str, **details: Any) -> Any:
    """A dataclass field with this default that is also an option; details are the other fields of `OptionSpec`."""
    return field(default=default, metadata={"option": OptionSpec(help=help, **details)})


def options_of(settings_type: type) -> Iterator[tuple[str, Any, OptionSpec]]:
    """Name, default and flag of each field that is an option."""
    for one in fields(settings_type):
        if "option" in one.metadata:
            yield one.name, one.default, one.metadata["option"]


def flag_name(name: str, spec: OptionSpec) -> str:
    """The flag of a field, as on the command line."""
    return "--" + (spec.name or name.replace("_", "-"))

"""How a field of a settings dataclass becomes an option of the command line: what the field cannot say itself.

This module knows no command line; `edge_mrcnn.cli.live_options` makes options from it.
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
    """"path" is a file or folder, "file" a file alone; both are written. "switch" is on when it is given. "whole" is a
    whole number."""
    choices: tuple[str, ...] = ()
    """The texts that a "choice" may be."""
    name: str = ""
    """Long flag without hyphens; the name of the field by default."""
    metavar: str | None = None
    low: float | None = None
    """Lowest number."""
    high: float | None = None
    """Highest number."""
    is_above: bool = False
    """Whether a number must be above `low`."""
    shows_default: bool = False
    """Whether the help names the default."""


def option(default: Any, help: str, **details: Any) -> Any:
    """A field with this default that is an option too; details are the other fields of `OptionSpec`."""
    return field(default=default, metadata={"option": OptionSpec(help=help, **details)})


def options_of(settings_type: type) -> Iterator[tuple[str, Any, OptionSpec]]:
    """Name, default and flag of each field that is an option."""
    for one in fields(settings_type):
        if "option" in one.metadata:
            yield one.name, one.default, one.metadata["option"]


def flag_name(name: str, spec: OptionSpec) -> str:
    """The flag of a field as it is typed."""
    return "--" + (spec.name or name.replace("_", "-"))

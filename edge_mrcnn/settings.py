"""Help text, type, range and flag of each field of a frozen dataclass of settings.

The command line, the files for `--config` and the checks of values are made from them. A field is written as

    batch: Annotated[int, Range(1)] = 8
    \"\"\"Images in one step on one device.\"\"\"

and nowhere else. Nested settings are not supported: a field has a value or a tuple of values.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from runtimes.errors import UsageError


@dataclass(frozen=True)
class Range:
    """Range of a value; both ends are included unless stated otherwise."""

    least: float | None = None
    most: float | None = None
    without_least: bool = False
    without_most: bool = False

    def __contains__(self, value: float) -> bool:
        # Written so that NaN is in no range.
        above = self.least is None or (value > self.least if self.without_least else value >= self.least)
        below = self.most is None or (value < self.most if self.without_most else value <= self.most)
        return above and below

    def __str__(self) -> str:
        least = "" if self.least is None else f"{'more than' if self.without_least else 'at least'} {self.least:g}"
        most = "" if self.most is None else f"{'below' if self.without_most else 'at most'} {self.most:g}"
        return " and ".join(part for part in (least, most) if part)


@dataclass(frozen=True)
class Flag:
    """Option name of a field, if it differs from the field's own name."""

    name: str


@dataclass(frozen=True)
class Setting:
    """One field of a settings dataclass."""

    name: str
    """Name of the field."""
    flag: str
    """Option name, such as "--max-det"."""
    help: str
    """The first paragraph under the field."""
    kind: Any
    """Type without None and without the extras of `Annotated`."""
    is_optional: bool
    """Whether None is allowed."""
    default: Any
    """Default; `dataclasses.MISSING` if there is none."""
    range: Range | None
    """Range of its value, or of each of its values."""

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed values; empty if any are allowed."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def item(self) -> Any:
        """Type of the values of a tuple; None if it is not a tuple."""
        return get_args(self.kind)[0] if get_origin(self.kind) is tuple else None

    @property
    def length(self) -> int | None:
        """Number of values of a tuple; None if any number is allowed."""
        parts = get_args(self.kind) if self.item else ()
        return None if Ellipsis in parts or not parts else len(parts)


def describe(config: type) -> tuple[Setting, ...]:
    """The settings of a frozen dataclass in the order of its fields, with their sentences."""
    sentences = _read_sentences(config)
    return tuple(dataclasses.replace(one, help=sentences.get(one.name, "")) for one in _read_types(config))


def check(settings: object) -> None:
    """Check that every value is in the range, or among the choices, of its field; for `__post_init__`.

    Raises:
        UsageError: If one is not.
    """
    config: type = type(settings)
    for setting in _read_types(config):
        value = getattr(settings, setting.name)
        if value is not None:
            _check_value(setting, value)


def _check_value(setting: Setting, value: Any) -> None:
    if setting.choices and value not in setting.choices:
        raise UsageError(f"{setting.name} {value!r}: expected {_join(setting.choices)}")
    if setting.length is not None and len(value) != setting.length:
        raise UsageError(f"{setting.name} {value}: expected {setting.length} values")
    if setting.range is None:
        return
    values = value if setting.item else (value,)
    if not all(number in setting.range for number in values):
        raise UsageError(f"{setting.name} {value}: expected {setting.range}")


def _join(choices: tuple[str, ...]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


@cache
def _read_types(config: type) -> tuple[Setting, ...]:
    hints = get_type_hints(config, include_extras=True)
    return tuple(_read_type(field, hints[field.name]) for field in dataclasses.fields(config))


def _read_type(field: dataclasses.Field[Any], hint: Any) -> Setting:
    facts: list[Any] = []
    kind = hint
    if get_origin(hint) is Annotated:
        kind, *facts = get_args(hint)
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    kinds = [part for part in parts if part is not types.NoneType]
    flags = [fact.name for fact in facts if isinstance(fact, Flag)]
    ranges = [fact for fact in facts if isinstance(fact, Range)]
    return Setting(
        name=field.name,
        flag=flags[0] if flags else f"--{field.name.replace('_', '-')}",
        help="",
        kind=kinds[0],
        is_optional=len(kinds) < len(parts),
        default=field.default,
        range=ranges[0] if ranges else None,
    )


@cache
def _read_sentences(config: type) -> dict[str, str]:
    """Field -> the first paragraph of the text under it. Python does not keep that text, so the source is parsed."""
    sentences: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if dataclasses.is_dataclass(base):
            sentences |= _read_own_sentences(base)
    return sentences


def _read_own_sentences(config: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except OSError:  # there is no source in a frozen application
        return {}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    sentences: dict[str, str] = {}
    for statement, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            sentences[statement.target.id] = _first_paragraph(below)
    return sentences


def _first_paragraph(statement: ast.stmt) -> str:
    """The text of a standalone string; "" for any other statement."""
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
        return ""
    text = inspect.cleandoc(str(statement.value.value))
    return " ".join(text.split("\n\n")[0].split())

"""Options of a command made from the fields of settings dataclasses, and the file that holds them.

    @click.command(cls=SectionedCommand, sections={"Options": ("data", "epochs"), "Optimizer": ("lr",)})
    @click.option("--data", required=True)
    @setting_options(TrainConfig)
    def command(data, **given): ...

An option that was not given has the value None. `--config FILE.toml` sets any of the options; the command line takes
precedence. `write_options` writes such a file.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_mrcnn.cli.origin import CONFIG_OPTION
from edge_mrcnn.settings import Range, Setting, describe
from runtimes.errors import UsageError

if TYPE_CHECKING:
    ValueType = click.ParamType[Any]
else:
    ValueType = click.ParamType  # not generic at run time in older versions of click

Command = TypeVar("Command", bound=Callable[..., Any])

ADVANCED = "Advanced options"
"""Heading of options that are in no section."""
NOT_WRITTEN = ("config", "output", "overwrite", "resume", "help")
"""Options that the file of a run leaves out: with them, using the file again would overwrite that run."""
NOT_NEGATIVE = Range(0)
"""A range that `--help` does not show."""
PLAIN_TYPES: dict[Any, Any] = {int: click.INT, float: click.FLOAT, str: click.STRING}


class SectionedCommand(click.Command):
    """A command whose help and options file have headings, the most used options first."""

    def __init__(self, *args: Any, sections: Mapping[str, Collection[str]], **settings: Any) -> None:
        """
        Args:
            args: Of `click.Command`.
            sections: Heading -> names of parameters; those that are in none come last, under `ADVANCED`.
            settings: Of `click.Command`.
        """
        super().__init__(*args, **settings)
        self.sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each section under its heading."""
        for heading, parameters in self.sorted_params(ctx).items():
            records = []
            for parameter in parameters:
                record = parameter.get_help_record(ctx)
                if record:
                    records.append(record)
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def sorted_params(self, ctx: click.Context) -> dict[str, list[click.Parameter]]:
        """Heading -> parameters, in the order of the sections."""
        by_flag = {parameter.opts[-1]: parameter for parameter in self.get_params(ctx)}
        last = [by_flag.pop(flag) for flag in ("--config", "--help") if flag in by_flag]
        rest = {str(parameter.name): parameter for parameter in by_flag.values()}
        sections = {}
        for number, (heading, names) in enumerate(self.sections.items()):
            sections[heading] = [rest.pop(name) for name in names]
            if number == 0:
                sections[heading] += last
        sections[ADVANCED] = list(rest.values())
        return sections


class NumberList(ValueType):
    """Numbers, texts or sizes with commas between them; a file may hold them as a list."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        if setting.length:
            self.name = ",".join(["VALUE"] * setting.length)
        else:
            self.name = "VALUE,..."

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What `--help` shows behind the flag."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Parse "1,2" or [1, 2] into (1, 2)."""
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            parts = [parts]
        item = PLAIN_TYPES[self.setting.item]
        values = []
        for part in parts:
            stripped = part.strip() if isinstance(part, str) else part
            if stripped != "":
                values.append(item.convert(stripped, param, ctx))
        if self.setting.length not in (None, len(values)):
            self.fail(f"{value!r}: expected {self.setting.length} values separated by commas", param, ctx)
        return tuple(values)


class SizeHW(ValueType):
    """Height and width in pixels as S or HxW."""

    name = "S|HxW"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What `--help` shows behind the flag."""
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse "320", "320x448", 320 or [320, 448] into (height, width)."""
        parts = list(value) if isinstance(value, (list, tuple)) else str(value).lower().split("x")
        if len(parts) not in (1, 2) or not all(str(part).isdecimal() for part in parts):
            flag = param.opts[0] if param else "size"
            raise UsageError(f"{flag} {value}: expected S or HxW, such as 320 or 320x448")
        return int(parts[0]), int(parts[-1])


def setting_options(
    *configs: type,
    leave_out: Collection[str] = (),
    flags: Mapping[str, str] | None = None,
    unset: Mapping[str, str] | None = None,
    with_file: bool = True,
) -> Callable[[Command], Command]:
    """Add an option for each field of dataclasses, and `--config`, to a command.

    Args:
        configs: The dataclasses; of several fields with the same name, the first is used.
        leave_out: Fields that get no option.
        flags: Field -> flag, for fields whose flag is different in this command.
        unset: Field -> its default in words, for fields whose default is different in this command.
        with_file: Whether `--config` is added.
    """
    flags, unset = flags or {}, unset or {}
    settings: dict[str, Setting] = {}
    for config in configs:
        for setting in describe(config):
            if setting.name not in leave_out:
                settings.setdefault(setting.name, setting)
    options = []
    for name, setting in settings.items():
        setting = dataclasses.replace(setting, help=_with_flags(setting.help, settings, flags))
        options.append(make_option(setting, flags.get(name, setting.flag), unset.get(name)))
    if with_file:
        options.append(CONFIG_OPTION)

    def decorate(command: Command) -> Command:
        for option in reversed(options):  # click shows first what is added last
            command = option(command)
        return command

    return decorate


def _with_flags(sentence: str, settings: Mapping[str, Setting], flags: Mapping[str, str]) -> str:
    """Help in which the names of other fields are their flags: `short_sides` is --short-sides."""
    for name, setting in settings.items():
        sentence = sentence.replace(f"`{name}`", flags.get(name, setting.flag))
    return sentence


def make_option(setting: Setting, flag: str, unset: str | None = None) -> Callable[[Command], Command]:
    """The option of one field; None where it is not given."""
    if setting.kind is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    return click.option(flag, setting.name, type=_option_type(setting), default=None, help=_option_help(setting, unset))


def _option_type(setting: Setting) -> Any:
    if setting.kind is bool:
        return None
    if setting.choices:
        return click.Choice(setting.choices)
    if setting.name.endswith("_hw"):
        return SizeHW()
    return NumberList(setting) if setting.item else PLAIN_TYPES[setting.kind]


def _option_help(setting: Setting, unset: str | None) -> str:
    """The field's sentence, its range and its default."""
    facts = []
    if setting.range and setting.range != NOT_NEGATIVE:
        facts.append(str(setting.range))
    default = unset if unset is not None else _show_default(setting)
    if default:
        facts.append(f"default: {default}")
    if not facts:
        return setting.help
    return f"{setting.help}  [{'; '.join(facts)}]"


def _show_default(setting: Setting) -> str:
    default = setting.default
    if default is dataclasses.MISSING or default is None or default == ():
        return ""
    if isinstance(default, bool):
        return "yes" if default else "no"
    if setting.name.endswith("_hw"):
        return "x".join(map(str, default))
    if isinstance(default, tuple):
        return ",".join(map(_show_value, default))
    return _show_value(default)


def _show_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def given(values: Mapping[str, Any], config: type) -> dict[str, Any]:
    """The values that were given for fields of a dataclass."""
    names = {setting.name for setting in describe(config)}
    return {name: value for name, value in values.items() if name in names and value is not None}


def is_typed(ctx: click.Context, name: str) -> bool:
    """Whether a parameter was given on the command line, not in a file."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def drop_from_file(ctx: click.Context, values: dict[str, Any], names: Collection[str]) -> list[str]:
    """Remove, in place, the values that a file set for some parameters; the names of those that it had set."""
    from_file = click.core.ParameterSource.DEFAULT_MAP
    dropped = [name for name in names if ctx.get_parameter_source(name) is from_file]
    values.update(dict.fromkeys(dropped))
    return dropped


def write_options(path: Path, ctx: click.Context, values: Mapping[str, Any], remark: str) -> None:
    """Write every option of a command, with its help, as a file for `--config`.

    Args:
        path: Where; its folder is made.
        ctx: Of the command, a `SectionedCommand`.
        values: Name of a parameter -> the value that was used; None or absent is written as a comment.
        remark: First line of the file.
    """
    assert isinstance(ctx.command, SectionedCommand)
    lines = [f"# {remark}"]
    for heading, parameters in ctx.command.sorted_params(ctx).items():
        options = [one for one in parameters if isinstance(one, click.Option) and one.name not in NOT_WRITTEN]
        if options:
            lines += ["", f"# ---- {heading} ----"]
        for option in options:
            lines += _write_option(option, values.get(str(option.name)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_option(option: click.Option, value: Any) -> list[str]:
    flag = next(flag for flag in option.opts if flag.startswith("--"))
    key = flag.removeprefix("--")
    sentence, _, _ = (option.help or "").partition("  [")
    lines = [""]
    if sentence:
        lines.append(f"# {sentence}")
    lines.append(f"# {key} =" if value is None else f"{key} = {_to_toml(value)}")
    return lines


def _to_toml(value: Any) -> str:
    """Texts, numbers, truth values and lists of TOML are those of JSON."""
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)

"""Refuse repeated options that take one value: click would silently use the last."""

from __future__ import annotations

from collections import Counter
from weakref import WeakSet

import click

_checked: WeakSet[click.Command] = WeakSet()


def expect_once(command: click.Command) -> None:
    """Make a command and its subcommands refuse repeated options, in place."""
    for below in getattr(command, "commands", {}).values():
        expect_once(below)
    if command in _checked:
        return
    _checked.add(command)
    parse = command.parse_args

    def parse_args(ctx: click.Context, args: list[str]) -> list[str]:
        _refuse_repeats(command, ctx, args)
        return parse(ctx, args)

    command.parse_args = parse_args  # type: ignore[method-assign]


def _refuse_repeats(command: click.Command, ctx: click.Context, args: list[str]) -> None:
    try:
        _, _, given = command.make_parser(ctx).parse_args(list(args))
    except click.UsageError:
        return  # the command's own parser reports the error
    for param, count in Counter(given).items():
        takes_one = isinstance(param, click.Option) and not (param.multiple or param.count or param.is_flag)
        if takes_one and count > 1:
            raise click.UsageError(f"{max(param.opts, key=len)}: given {count} times, but it takes one value", ctx)

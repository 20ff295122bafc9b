"""Where a verb writes: never onto what it reads, onto what is there only when asked; see `runtimes.output_paths`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from runtimes.errors import UsageError
from runtimes.output_paths import expect_apart, expect_writable, free_path

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is there, instead of adding a number.")


def choose_output(
    output: Path, inputs: Iterable[str | Path | None] = (), *, overwrite: bool = False, option: str = "--output"
) -> Path:
    """The path that was asked for, or the first with a number that is free, which is said.

    Args:
        output: File or folder.
        inputs: What is read; None stands for an option that was not given.
        overwrite: Whether what is there may go.
        option: What the user calls the output.

    Raises:
        UsageError: If it is one of the inputs, or stands for standard output, which this verb has other uses for.
        UnavailableError: If it cannot be written.
    """
    if str(output) == "-":
        raise UsageError(f"{option} -: expected a file or folder; standard output is not written to (./- is a file)")
    expect_apart([(option, output)], [Path(one) for one in inputs if one])
    expect_writable(output)
    chosen = free_path(output, overwrite=overwrite)
    if chosen != output:
        click.echo(f"{output}: is there already, so this goes to {chosen} (--overwrite replaces)", err=True)
    return chosen

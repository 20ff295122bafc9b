"""Output paths of a command: never one of its inputs, and an existing one only with --overwrite."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from runtimes.errors import UsageError
from runtimes.output_paths import expect_apart, expect_writable, free_path

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Overwrite an existing output, instead of adding a number to its name."
)


def choose_output(
    output: Path, inputs: Iterable[str | Path | None] = (), *, overwrite: bool = False, option: str = "--output"
) -> Path:
    """The given path, or, if it exists, the first free one with a number, which is announced on stderr.

    Args:
        output: File or folder.
        inputs: Paths that the command reads; None stands for an option that was not given.
        overwrite: Whether an existing output may be replaced.
        option: Name of the option, for errors.

    Raises:
        UsageError: If it is one of the inputs, or "-" for standard output.
        UnavailableError: If it cannot be written.
    """
    if str(output) == "-":
        raise UsageError(
            f"{option} -: expected a file or folder; this command cannot write to standard output (./- is a file)"
        )
    expect_apart([(option, output)], [Path(one) for one in inputs if one])
    expect_writable(output)
    chosen = free_path(output, overwrite=overwrite)
    if chosen != output:
        click.echo(f"{output} exists; writing to {chosen} instead (--overwrite replaces it)", err=True)
    return chosen

"""`edge-mrcnn doctor`."""

from __future__ import annotations

import click

from edge_mrcnn.cli.options import name_next


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Check this machine, its packages and runtimes for problems; exit code 3 means that there is one to fix."""
    from edge_mrcnn.doctor.diagnosis import diagnose
    from edge_mrcnn.doctor.facts import read_facts
    from edge_mrcnn.doctor.text import to_text

    diagnosis = diagnose(read_facts())
    click.echo(diagnosis.to_json() if as_json else to_text(diagnosis), nl=not as_json)
    if not diagnosis.is_well:
        context.exit(3)
    if not as_json:
        name_next("tune", "--models", "DIR", "--data", "VAL.json")

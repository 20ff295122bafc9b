"""`edge-mrcnn inspect`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_mrcnn.cli.card_text import NO_BREAK, card_lines, entry
from runtimes.errors import MissingExtraError
from runtimes.model_file import ModelFile

if TYPE_CHECKING:
    from edge_mrcnn.inspection.summary import Exit, PartSummary, Summary


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(model: Path, as_json: bool) -> None:
    """Show the model card and the operators of a model file, and which operators run in INT8.

    For a checkpoint: its classes, parts, training recipe and cost.
    """
    from edge_mrcnn.measure.files import is_checkpoint

    if is_checkpoint(model):
        _show_checkpoint(model, as_json)
        return
    from edge_mrcnn.inspection import list_operators
    from edge_mrcnn.inspection.summary import summarize

    file = ModelFile(model)
    card, size_mb = file.card, file.size_bytes / 1e6
    try:
        summary = summarize(list_operators(model), card.calibration.get("float", {}))
    except MissingExtraError as error:  # a device runs ONNX files without the onnx package, which lists their operators
        summary = None
        click.echo(f"operators: not available: {error}", err=True)
    if as_json:
        operators = asdict(summary) | {"integer_share": summary.integer_share} if summary else None
        click.echo(json.dumps({"card": asdict(card), "size_mb": size_mb, "operators": operators}, indent=1))
        return
    for line in [*card_lines(model, card, size_mb), *(summary_lines(summary) if summary else ())]:
        click.echo(line)


def _show_checkpoint(path: Path, as_json: bool) -> None:
    from edge_mrcnn.cli.checkpoint import checkpoint_lines, describe_checkpoint

    record = describe_checkpoint(path)
    for line in [json.dumps(record, indent=1)] if as_json else checkpoint_lines(path, record):
        click.echo(line)


def summary_lines(summary: Summary) -> Iterator[str]:
    """Parts, share of INT8 weights, conversions to float, and operators by kind."""
    yield ""
    yield f"{'':<12}{'operators':>10}{'layers with weights':>23}{'weights':>22}"
    yield f"{'part':<12}{'':>10}{'integer':>14}{'float':>9}{'integer':>13}{'float':>9}"
    for part in summary.parts:
        yield part_line(part)
    yield f"{'all':<12}{sum(summary.kinds.values()):>10}   {summary.integer_share:.1%} of the weights in INT8"
    if summary.exits:
        yield from ("", "conversions from INT8 to float")
        yield from exit_lines(summary.exits)
    yield from ("", "operators by kind")
    for part in summary.parts:
        yield from entry(part.name, ", ".join(f"{kind}{NO_BREAK}{count}" for kind, count in part.kinds.items()))


def part_line(part: PartSummary) -> str:
    """One row of the table."""
    layers = f"{part.integer_layers:>14}{part.float_layers:>9}"
    return f"{part.name:<12}{part.operators:>10}{layers}{part.integer_weights:>13,}{part.float_weights:>9,}"


def exit_lines(exits: Iterable[Exit]) -> Iterator[str]:
    """Where values are converted from INT8 to float, with the reason."""
    for place in exits:
        yield from entry(f"{place.count:>4} x", f"{place.source} to {place.kind} in {place.target}: {place.why}", 8)

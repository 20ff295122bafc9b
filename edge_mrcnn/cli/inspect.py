"""`edge-mrcnn inspect`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_mrcnn.tables import WIDTH
from runtimes.errors import MissingExtraError
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile

if TYPE_CHECKING:
    from edge_mrcnn.inspection.summary import Exit, PartSummary, Summary

NO_BREAK = "\u00a0"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def command(model: Path, as_json: bool) -> None:
    """Show what a model file is, its operators, which of them compute in integers, and where that ends.

    Of a checkpoint: what it detects, its parts, how it was trained, and what it costs.
    """
    from edge_mrcnn.report.models import is_checkpoint

    if is_checkpoint(model):
        _show_checkpoint(model, as_json)
        return
    from edge_mrcnn.inspection import list_operators
    from edge_mrcnn.inspection.summary import summarize

    file = ModelFile(model)
    card, size_mb = file.card, file.size_bytes / 1e6
    try:
        summary = summarize(list_operators(model), card.calibration.get("float", {}))
    except MissingExtraError as error:  # a device runs ONNX files without the package that reads them apart
        summary = None
        click.echo(f"operators: not shown, {error}", err=True)
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


def card_lines(model: Path, card: ModelCard, size_mb: float) -> Iterator[str]:
    """What a model detects and takes, and how it was made."""
    height, width = card.input_size_hw
    yield (
        f"{model.name}: {card.name}, {card.target} {card.precision}, {size_mb:.1f} MB, "
        f"{card.parameters / 1e6:.2f} M parameters"
    )
    names = ", ".join(card.classes[:8])
    yield from entry("classes", f"{names}{' ...' if len(card.classes) > 8 else ''} ({len(card.classes)})")
    batch = f", {card.batch} images at once" if card.batch > 1 else ""
    yield from entry("input", f"{width}x{height} uint8 RGB{batch}")
    yield from entry(
        "output",
        f"at most {card.max_detections} detections of {card.proposals} proposals, {card.rows} rows; score above "
        f"{card.score_threshold}, NMS at IoU {card.iou_threshold}; masks {card.mask_size}x{card.mask_size}",
    )
    yield from entry("made from", f"checkpoint {card.checkpoint_sha256[:12] or 'unknown'}{described(card.training)}")
    if card.calibration:
        images, digest = card.calibration.get("images"), str(card.calibration.get("manifest_sha256", ""))
        yield from entry("calibrated", f"on {images} images, manifest {digest[:12]}")
    yield from entry("made with", ", ".join(f"{name} {version}" for name, version in card.versions.items()))


def described(training: dict[str, object]) -> str:
    """The plain values of a training's provenance, behind a comma."""
    plain = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
             for name, value in training.items() if isinstance(value, str | int | float))  # fmt: skip
    return "".join(f", {text}" for text in plain)


def entry(name: str, text: str, column: int = 12) -> list[str]:
    """A name and its text, wrapped behind it; a no-break space keeps two words on one line."""
    indent = " " * column
    lines = textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    lines = [line.replace(NO_BREAK, " ") for line in lines]
    return [f"{name:<{column}}{lines[0].lstrip()}", *lines[1:]] if lines else []


def summary_lines(summary: Summary) -> Iterator[str]:
    """Parts, share of the integers, exits, and operators by kind."""
    yield ""
    yield f"{'':<12}{'operators':>10}{'layers with weights':>23}{'weights':>22}"
    yield f"{'part':<12}{'':>10}{'integer':>14}{'float':>9}{'integer':>13}{'float':>9}"
    for part in summary.parts:
        yield part_line(part)
    yield f"{'all':<12}{sum(summary.kinds.values()):>10}   {summary.integer_share:.1%} of the weights in integers"
    if summary.exits:
        yield from ("", "values leave integers")
        yield from exit_lines(summary.exits)
    yield from ("", "operators by kind")
    for part in summary.parts:
        yield from entry(part.name, ", ".join(f"{kind}{NO_BREAK}{count}" for kind, count in part.kinds.items()))


def part_line(part: PartSummary) -> str:
    """One row of the table."""
    layers = f"{part.integer_layers:>14}{part.float_layers:>9}"
    return f"{part.name:<12}{part.operators:>10}{layers}{part.integer_weights:>13,}{part.float_weights:>9,}"


def exit_lines(exits: Iterable[Exit]) -> Iterator[str]:
    """Where values leave integers, with the reason below."""
    for place in exits:
        yield from entry(f"{place.count:>4} x", f"{place.source} to {place.kind} in {place.target}: {place.why}", 8)

"""`edge-mrcnn inspect`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from runtimes.errors import MissingExtraError
from runtimes.model_card import ModelCard


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
def command(model: Path) -> None:
    """Show what a model file is, its operators, and which of its layers compute in integers."""
    import runtimes

    show_card(model, runtimes.read_card(model))
    try:
        show_operators(model)
    except MissingExtraError as error:  # a device runs ONNX files without the package that reads them apart
        click.echo(f"operators: not shown, {error}")


def show_card(model: Path, card: ModelCard) -> None:
    """Say what a model detects and takes, and what stays float in it."""
    from edge_mrcnn.cli.export import file_mb

    height, width = card.input_size_hw
    click.echo(f"{model}: {card.name}, {card.target} {card.precision}, {file_mb(model):.1f} MB")
    click.echo(f"classes: {', '.join(card.classes[:8])}{' ...' if len(card.classes) > 8 else ''} ({len(card.classes)})")
    click.echo(
        f"input {width}x{height} uint8 RGB; at most {card.max_detections} detections of {card.proposals} proposals; "
        f"score above {card.score_threshold}, NMS at IoU {card.iou_threshold}; masks {card.mask_size}x{card.mask_size}"
    )
    for what, why in card.calibration.get("float", {}).items():
        click.echo(f"float: {what}: {why}")


def show_operators(model: Path) -> None:
    """Count the operators of a model, and its learned layers by part and arithmetic."""
    from edge_mrcnn.inspection import count_kinds, list_operators

    operators = list_operators(model)
    click.echo(f"\nlearned layers: {'integer':>9}{'float':>7}")
    learned = Counter((operator.part, operator.is_integer) for operator in operators if operator.is_learned)
    for part in dict.fromkeys(part for part, _ in learned):
        click.echo(f"  {part:<14}{learned[part, True]:>9}{learned[part, False]:>7}")
    kinds = ", ".join(f"{kind} {count}" for kind, count in count_kinds(operators).most_common())
    click.echo(f"\n{len(operators)} operators: {kinds}")

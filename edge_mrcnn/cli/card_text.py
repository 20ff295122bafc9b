"""A model card as text for a terminal, for `inspect` of model files and checkpoints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from edge_mrcnn.tables import WIDTH
from runtimes.model_card import ModelCard

NO_BREAK = "\u00a0"
"""Keeps two words on one line; shown as a space."""


def card_lines(model: Path, card: ModelCard, size_mb: float) -> Iterator[str]:
    """Classes, input and output of a model, and how it was made."""
    height, width = card.input_size_hw
    yield (
        f"{model.name}: {card.name}, {card.target} {card.precision}, {size_mb:.1f} MB, "
        f"{card.parameters / 1e6:.2f} M parameters"
    )
    names = ", ".join(card.classes[:8])
    yield from entry("classes", f"{names}{' ...' if len(card.classes) > 8 else ''} ({len(card.classes)})")
    batch = f", batches of {card.batch}" if card.batch > 1 else ""
    yield from entry("input", f"{width}x{height} uint8 RGB{batch}")
    yield from entry(
        "output",
        f"up to {card.max_detections} detections from {card.proposals} proposals, {card.rows} rows; score threshold "
        f"{card.score_threshold}, NMS at IoU {card.iou_threshold}; masks {card.mask_size}x{card.mask_size}",
    )
    yield from entry("made from", f"checkpoint {card.checkpoint_sha256[:12] or 'unknown'}{described(card.training)}")
    if card.calibration:
        images, digest = card.calibration.get("images"), str(card.calibration.get("manifest_sha256", ""))
        yield from entry("calibrated", f"on {images} images, manifest {digest[:12]}")
    yield from entry("made with", ", ".join(f"{name} {version}" for name, version in card.versions.items()))


def described(training: dict[str, object]) -> str:
    """The plain values of the training record, each after a comma."""
    text = ""
    for name, value in training.items():
        if isinstance(value, float):
            text += f", {name} {value:.4g}"
        elif isinstance(value, str | int):
            text += f", {name} {value}"
    return text


def entry(name: str, text: str, column: int = 12) -> list[str]:
    """A name and its text, wrapped; a no-break space keeps two words on one line."""
    indent = " " * column
    lines = textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    lines = [line.replace(NO_BREAK, " ") for line in lines]
    return [f"{name:<{column}}{lines[0].lstrip()}", *lines[1:]] if lines else []

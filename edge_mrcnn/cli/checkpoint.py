"""What `edge-mrcnn inspect` shows of a checkpoint: model card, parts, training recipe and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_mrcnn.cli.card_text import NO_BREAK, card_lines, entry
from runtimes.model_card import ModelCard

if TYPE_CHECKING:
    from edge_mrcnn.model.checkpoint import Checkpoint

PARTS = {"backbone": "backbone", "pyramid": "backbone.fpn", "rpn": "rpn", "heads": "roi_heads"}
"""Part of the model -> prefix of the names of its weights; the longest matching prefix decides."""


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """The facts about a checkpoint, as plain values.

    Raises:
        MissingExtraError: If torch is not installed.
        ModelFileError: If it cannot be opened as a checkpoint.
    """
    from edge_mrcnn.report.models import require_torch

    require_torch(path)
    from edge_mrcnn.export.cost import measure_cost
    from edge_mrcnn.model.checkpoint import file_sha256, load_checkpoint
    from edge_mrcnn.model.published import locate
    from edge_mrcnn.reference import make_card

    file = locate(path)
    checkpoint = load_checkpoint(file)
    card = make_card(checkpoint, sha256=file_sha256(file))
    settings = {name: value for name, value in checkpoint.config.to_dict().items() if value is not None}
    return {
        "card": asdict(card),
        "size_mb": file.stat().st_size / 1e6,
        "parts": settings,
        "recipe": dict(checkpoint.training.get("settings", {})),
        "macs": measure_cost(checkpoint.model, checkpoint.config).macs,
        "weights": count_weights(checkpoint),
    }


def count_weights(checkpoint: Checkpoint) -> dict[str, int]:
    """Number of weights of each part."""
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in checkpoint.model.named_parameters():
        fitting = [part for part, start in PARTS.items() if name.startswith(f"{start}.")]
        longest = max(fitting, key=lambda part: len(PARTS[part]))
        counts[longest] += parameter.numel()
    return counts


def checkpoint_lines(path: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """The record of `describe_checkpoint` as lines."""
    yield from card_lines(path, ModelCard(**record["card"]), record["size_mb"])
    yield from entry("costs", f"{record['macs'] / 1e9:.3f} GMAC with the maximum number of proposals and detections")
    weights = [f"{part} {count / 1e6:.2f} M" for part, count in record["weights"].items()]
    yield from entry("weights", ", ".join(weights))
    yield from entry("parts", _listed(record["parts"]))
    yield from entry("recipe", _listed(record["recipe"]) or "none, because it was not trained by `edge-mrcnn train`")


def _listed(settings: Mapping[str, Any]) -> str:
    """Names and values, each pair kept on one line."""
    pairs = []
    for name, value in settings.items():
        pairs.append(f"{name}{NO_BREAK}{_shown(value)}")
    return ", ".join(pairs)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "/".join(map(_shown, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)

"""`edge-mrcnn models`."""

from __future__ import annotations

from importlib.util import find_spec

import click

from edge_mrcnn.cli.options import name_next
from edge_mrcnn.config import PRESETS, ModelConfig
from edge_mrcnn.measure.files import file_size
from runtimes.model_file import ModelFile
from runtimes.shipped import ShippedModel, is_installed, list_shipped

BUDGET = {"proposals": 64, "max_detections": 20}
"""P and D at which the cost of every preset is also shown, for comparison."""


@click.command()
@click.option("--classes", type=int, default=1, show_default=True, help="Number of classes to compute the costs for.")
def command(classes: int) -> None:
    """List the installed models, the presets with their parts and cost, and the backbones."""
    for shipped in list_shipped():
        show_shipped(shipped)
    if find_spec("torch") is None:
        click.echo("presets: counting their cost needs torch: pip install 'edge-mrcnn[train]'")
        name_next("run", "--source", 0)
        return
    show_presets(classes)
    name_next("train", "--model", "nano", "--backbone", "NAME", "--data", "DIR")


def show_shipped(model: ShippedModel) -> None:
    """The classes of an installed model, and each of its files."""
    card = ModelFile(next(iter(model.files.values()))).card
    size = "x".join(map(str, card.input_size_hw))
    click.echo(f"{model.name}: installed; detects {', '.join(card.classes)}; {card.name} at {size}")
    for name, path in model.files.items():
        state = "" if is_installed(name) else "  (runtime not installed)"
        click.echo(f"  {path.name:<14}{file_size(path) / 1e6:>6.1f} MB  int8  {name}{state}")
    if model.checkpoint is not None:
        size_mb = model.checkpoint.stat().st_size / 1e6
        click.echo(
            f"  {model.checkpoint.name:<14}{size_mb:>6.1f} MB  fp16  to start from: train --weights {model.name}"
        )
    click.echo()


def show_presets(classes: int) -> None:
    """The tables of presets, and the backbones."""
    from edge_mrcnn.export.cost import measure_cost
    from edge_mrcnn.model.backbones import BACKBONES
    from edge_mrcnn.model.mask_rcnn import build_model

    equal = "GMAC at P={proposals}, D={max_detections}".format(**BUDGET)
    click.echo(f"{'preset':<13}{'input':>8}{'M params':>10}{'P':>6}{'D':>5}{'GMAC':>8}{equal:>21}")
    for name, config in PRESETS.items():
        model = build_model(config, classes)
        own, alike = (measure_cost(model, parts) for parts in (config, config.updated(**BUDGET)))
        click.echo(
            f"{name:<13}{_size(config):>8}{own.parameters / 1e6:>10.2f}{config.proposals:>6}"
            f"{config.max_detections:>5}{own.macs / 1e9:>8.2f}{alike.macs / 1e9:>21.2f}"
        )
    click.echo("\nparts: backbone; pyramid channels; box head; mask head")
    for name, config in PRESETS.items():
        click.echo(f"{name:<13}{_parts(config)}")
    click.echo(f"\nbackbones: {', '.join(BACKBONES)}, timm:<any model with features at strides 8, 16, 32>")
    click.echo("GMAC counts the exported graph; M params counts the trained weights.")


def _size(config: ModelConfig) -> str:
    return "x".join(map(str, config.image_size_hw))


def _parts(config: ModelConfig) -> str:
    boxes = "one box for all classes" if config.class_agnostic_boxes else "a box per class"
    hidden, masks = ("-".join(map(str, widths)) for widths in (config.box_hidden, config.mask_hidden))
    return f"{config.backbone}; {config.fpn_channels}; FC {hidden}, {boxes}; conv {masks}"

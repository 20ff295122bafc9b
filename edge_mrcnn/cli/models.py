"""`edge-mrcnn models`."""

from __future__ import annotations

import click

from edge_mrcnn.cli.options import name_next
from edge_mrcnn.config import PRESETS


@click.command()
@click.option("--classes", type=int, default=1, show_default=True, help="Classes to count the predictors for.")
def command(classes: int) -> None:
    """List presets and backbones with their cost."""
    from edge_mrcnn.model.backbones import BACKBONES
    from edge_mrcnn.model.cost import measure_cost
    from edge_mrcnn.model.mask_rcnn import build_model

    click.echo(f"{'preset':<12}{'input':>10}{'P':>6}{'D':>5}{'M params':>10}{'GMAC':>8}  backbone")
    for name, config in PRESETS.items():
        cost = measure_cost(build_model(config, classes), config)
        size = "x".join(map(str, config.image_size_hw))
        click.echo(
            f"{name:<12}{size:>10}{config.proposals:>6}{config.max_detections:>5}"
            f"{cost.parameters / 1e6:>10.2f}{cost.macs / 1e9:>8.2f}  {config.backbone}"
        )
    click.echo(f"\nbackbones: {', '.join(BACKBONES)}, timm:<any model with features at strides 8, 16, 32>")
    name_next("train", "--model", "nano", "--backbone", "NAME", "--data", "DIR")

"""`edge-mrcnn prune`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_mrcnn.cli.options import name_next, val_split
from edge_mrcnn.config import TrainConfig


@click.command()
@click.option("--weights", required=True, type=click.Path(path_type=Path), help="Checkpoint of `train`.")
@click.option("--data", required=True, help="COCO JSON or folder: its train split ranks channels and fine-tunes.")
@click.option("--val", help="COCO JSON for the AP of each epoch [default: the folder's val split, if it has one].")
@click.option("--ratio", type=float, default=0.3, show_default=True, help="Share of channels removed, in [0, 1).")
@click.option("--epochs", type=int, default=4, show_default=True, help="Epochs of fine-tuning.")
@click.option("--batch", type=int, default=8, show_default=True)
@click.option("--lr", type=float, default=0.0, help="Peak learning rate [default: by optimizer and batch].")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), default="sgd", show_default=True)
@click.option("--freeze-norm", is_flag=True, help="Keep the backbone's BatchNorm statistics.")
@click.option("--precision", type=click.Choice(["auto", "32", "bf16", "16"]), default="auto", show_default=True)
@click.option(
    "--rois", type=int, default=TrainConfig().rois, show_default=True, help="Regions per image for the heads."
)
@click.option("--workers", type=int, default=2, show_default=True)
@click.option("--eval-every", type=int, default=1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/prune"), show_default=True)
def command(
    weights: Path, data: str, val: str | None, ratio: float, epochs: int, batch: int, lr: float, optimizer: str,
    freeze_norm: bool, precision: str, rois: int, workers: int, eval_every: int, seed: int, device: str, output: Path,
) -> None:  # fmt: skip
    """Remove channels from a checkpoint and fine-tune it."""
    config = TrainConfig(
        epochs=epochs, batch=batch, lr=lr, optimizer=optimizer, freeze_norm=freeze_norm, precision=precision,
        rois=rois, workers=workers, eval_every=eval_every, seed=seed, warmup_steps=20,
    )  # fmt: skip
    from edge_mrcnn.data.coco import load_coco
    from edge_mrcnn.model.checkpoint import save_checkpoint
    from edge_mrcnn.prune.channels import PruneConfig, prune, training_batches
    from edge_mrcnn.train.loop import train
    from edge_mrcnn.train.start import continue_from

    settings = PruneConfig(ratio=ratio, seed=seed)
    training = load_coco(data, "train")
    validation = load_coco(val) if val else val_split(data)
    checkpoint = continue_from(weights, training)
    checkpoint = prune(checkpoint, training_batches(training, checkpoint, batch, seed), settings)
    record = checkpoint.training["pruned"]
    (parameters, left), (macs, macs_left) = record["parameters"], record["macs"]
    click.echo(
        f"{parameters / 1e6:.2f} M parameters -> {left / 1e6:.2f} M, "
        f"{macs / 1e9:.2f} GMAC -> {macs_left / 1e9:.2f} (heads counted for one RoI)",
        err=True,
    )
    best = output / "best.pt"
    if epochs:
        best = train(checkpoint, training, output, config, validation=validation, device=device)
    else:
        save_checkpoint(best, checkpoint)
    click.echo(f"wrote {best}")
    name_next("export", "--weights", best, "--target", "onnx,openvino,tflite", "--int8", "--calib", data)

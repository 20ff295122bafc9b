"""`edge-mrcnn prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli.options import load_split, name_next, val_split
from edge_mrcnn.config import TrainConfig

FINE_TUNING_LR = 0.5
"""Fine-tuning starts at this share of the learning rate that the model was trained with."""


@click.command()
@click.option("--weights", required=True, type=click.Path(path_type=Path), help="Checkpoint of `train`.")
@click.option("--data", required=True, help="COCO JSON or folder: its train split ranks channels and fine-tunes.")
@click.option("--val", help="COCO JSON for the AP of each epoch [default: the folder's val split, if it has one].")
@click.option("--macs", type=float, help="Budget: share of the multiply-accumulates that remains, in (0, 1].")
@click.option("--ratio", type=float, help="Budget: share of the channels that goes, in [0, 1).")
@click.option("--target-latency-ms", "latency_ms", type=float, help="Budget: time of one image on --runtime.")
@click.option(
    "--sparsity", help="Zero single weights: a share such as 0.5, or 2:4. Changes the zipped file, no latency."
)
@click.option(
    "--runtime", type=click.Choice(["onnx", "openvino", "tflite"]), default="openvino", show_default=True,
    help="Where --target-latency-ms is measured, here and now.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of that runtime [default: its own choice].")
@click.option("--iterations", type=int, default=1, show_default=True, help="Steps in which channels go.")
@click.option("--epochs", type=int, default=4, show_default=True, help="Epochs of fine-tuning, of all steps together.")
@click.option("--teacher", type=click.Path(path_type=Path), help="Whose answers are learnt [default: --weights].")
@click.option("--batch", type=int, help="Images in a step [default: as in training].")
@click.option("--lr", type=float, help="Peak learning rate [default: half of the training's].")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), help="[default: as in training]")
@click.option("--backbone-lr-factor", type=float, help="[default: as in training]")
@click.option(
    "--freeze-norm/--no-freeze-norm", default=None, help="Keep BatchNorm statistics [default: as in training]."
)
@click.option("--rois", type=int, help="Regions per image for the heads [default: as in training].")
@click.option("--precision", type=click.Choice(["auto", "32", "bf16", "16"]), default="auto", show_default=True)
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that load data.")
@click.option("--eval-every", type=int, default=1, show_default=True, help="Epochs between two evaluations.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run in the output folder.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/prune"), show_default=True)
def command(
    weights: Path, data: str, val: str | None, macs: float | None, ratio: float | None, latency_ms: float | None,
    sparsity: str | None, runtime: str, threads: int | None, iterations: int, teacher: Path | None, seed: int,
    device: str, resume: bool, output: Path, **settings: Any,
) -> None:  # fmt: skip
    """Make a trained model cheaper: remove channels to a budget, fine-tune with the unpruned model as the teacher.

    \b
    edge-mrcnn prune --weights best.pt --data DIR --macs 0.65 --epochs 5
    """
    from edge_mrcnn.prune.budget import PruneConfig

    config = PruneConfig(
        macs=macs, ratio=ratio, latency_ms=latency_ms, sparsity=sparsity, runtime=runtime, threads=threads, seed=seed
    )
    from edge_mrcnn.model.checkpoint import load_checkpoint
    from edge_mrcnn.prune.tuning import prune_and_train

    checkpoint = load_checkpoint(weights)
    learn_crowds = bool(checkpoint.training.get("settings", {}).get("learn_crowds", False))
    training = load_split(data, "train", learn_crowds=learn_crowds)
    best = prune_and_train(
        checkpoint, training, output, config, fine_tuning(checkpoint.training.get("settings", {}), seed, **settings),
        teacher=load_checkpoint(teacher) if teacher else None,
        validation=val_split(data, val, learn_crowds=learn_crowds),
        iterations=iterations, resume=resume, device=device, say=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    click.echo(f"wrote {best}")
    name_next("export", "--weights", best, "--target", "onnx,openvino,tflite", "--int8", "--calib", data)


def fine_tuning(trained: dict[str, Any], seed: int, **given: Any) -> TrainConfig:
    """What was asked for; else as the model was trained, at half the learning rate.

    Args:
        trained: Settings of the training, as the checkpoint records them.
        seed: Of order and views.
        given: Fields of `TrainConfig`; None where nothing was asked for.
    """
    kept = ("batch", "optimizer", "backbone_lr_factor", "freeze_norm", "rois")
    settings = {name: trained[name] for name in kept if name in trained}
    settings |= {"lr": FINE_TUNING_LR * trained.get("lr", 0.0), "warmup_steps": 20, "seed": seed}
    return TrainConfig(**settings | {name: value for name, value in given.items() if value is not None})

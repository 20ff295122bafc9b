"""`edge-mrcnn demo`: the whole chain, by the commands that a user types."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click

from edge_mrcnn.cli.extras import EXTRAS, expect_installed
from edge_mrcnn.cli.outputs import choose_output, overwrite_option

NEEDED = ("demo", "train", "prune", "export", "report")
"""Extras without which the chain ends somewhere."""
LEARN = "--optimizer adamw --lr 1e-3 --rois 64 --eval-every {epochs} --device {device}"
INT8 = "{out}/models/best-int8.onnx {out}/models/best-int8.xml {out}/models/best-int8.tflite"

CHAIN = f"""
scenes --train {{scenes}} --val 80 --imgsz 256 --video {{out}}/scenes.mp4 --seconds 8 -o {{out}}/scenes
train --data {{out}}/scenes --model nano-dense --imgsz 192 --epochs {{epochs}} {LEARN} -o {{out}}/train
prune --weights {{out}}/train/best.pt --data {{out}}/scenes --macs 0.65 --epochs {{tuning}} {LEARN} -o {{out}}/prune
export --weights {{out}}/prune/best.pt --int8 --calib {{out}}/scenes -o {{out}}/models
run --model {{out}}/models/best-int8.onnx --source {{out}}/scenes.mp4 --save {{out}}/run-onnx.mp4
run --model {{out}}/models/best-int8.xml --source {{out}}/scenes.mp4 --save {{out}}/run-openvino.mp4
run --model {{out}}/models/best-int8.tflite --source {{out}}/scenes.mp4 --save {{out}}/run-tflite.mp4
report --reference {{out}}/train/best.pt --models {{out}}/prune/best.pt {INT8} --data {{out}}/scenes \
--extra 'real photographs={{out}}/scenes/annotations/instances_real.json' --name Demo -o {{out}}/report
"""


@click.command()
@click.option("--epochs", type=int, default=3, show_default=True, help="Epochs of training.")
@click.option("--prune-epochs", type=int, default=1, show_default=True, help="Epochs of fine-tuning after pruning.")
@click.option("--scenes", type=int, default=1200, show_default=True, help="Scenes to train on.")
@click.option("--device", default="auto", show_default=True, help="Where to train: auto, cpu or cuda.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("demo_out"), show_default=True)
@overwrite_option
def command(epochs: int, prune_epochs: int, scenes: int, device: str, output: Path, overwrite: bool) -> None:
    """Train, prune, export, quantize, run and report on generated pictures, in a few minutes on a CPU."""
    from edge_mrcnn.cli import group

    expect_installed(*(module for extra in NEEDED for module in EXTRAS[extra]))
    output = choose_output(output, overwrite=overwrite)
    start = time.monotonic()
    values = {"epochs": epochs, "tuning": prune_epochs, "scenes": scenes, "device": device}
    for arguments in chain(output, **values):
        click.secho(f"\n$ edge-mrcnn {shlex.join(arguments)}", bold=True, err=True)
        group.main(arguments, standalone_mode=False)
    minutes = (time.monotonic() - start) / 60
    click.echo(f"\nThe whole chain took {minutes:.1f} minutes. Look at {output / 'report' / 'report.html'}")
    click.echo(f"and at {output / 'run-openvino.mp4'}; the models are in {output / 'models'}.")


def chain(output: Path, **values: object) -> list[list[str]]:
    """The commands of the demo, each as its arguments.

    Args:
        output: Folder for everything.
        values: What else `CHAIN` names in braces.
    """
    lines = CHAIN.strip().splitlines()
    return [[word.format(out=output, **values) for word in shlex.split(line)] for line in lines]

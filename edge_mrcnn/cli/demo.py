"""`edge-mrcnn demo`: the whole chain, by the commands that a user types."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click

from edge_mrcnn.cli.extras import EXTRAS, expect_installed
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from runtimes.shipped import list_shipped

NEEDED = ("demo", "train", "prune", "export", "report")
"""Extras without which the chain ends somewhere."""
PHOTOGRAPHS = "photograph#size=640x480,fps=15"

PEOPLE = """
predict --model people --source {photographs} -o {out}/people
run --model people --runtime onnx --source {moving} --max-frames 120 --save {out}/people/onnx.mp4
run --model people --runtime openvino --source {moving} --max-frames 120 --save {out}/people/openvino.mp4
run --model people --runtime tflite --source {moving} --max-frames 120 --save {out}/people/tflite.mp4
"""
"""Command for the first try: the included model on photographs of people."""

START = "--weights people --imgsz 192 --backbone-lr-factor 0.3 --freeze-norm"
FRESH = "--model nano-dense --imgsz 192"
"""Without the checkpoint of the people model."""
LEARN = "--optimizer adamw --lr 1e-3 --rois 64 --eval-every {epochs} --device {device}"
INT8 = "{out}/models/best-int8.onnx {out}/models/best-int8.xml {out}/models/best-int8.tflite"

OWN = f"""
scenes --train {{scenes}} --val 80 --imgsz 256 --video {{out}}/scenes.mp4 --seconds 8 -o {{out}}/scenes
train --data {{out}}/scenes {{start}} --epochs {{epochs}} {LEARN} -o {{out}}/train
prune --weights {{out}}/train/best.pt --data {{out}}/scenes --macs 0.65 --epochs {{tuning}} {LEARN} -o {{out}}/prune
export --weights {{out}}/prune/best.pt --int8 --calib {{out}}/scenes -o {{out}}/models
run --model {{out}}/models/best-int8.onnx --source {{out}}/scenes.mp4 --conf 0.6 --save {{out}}/run-onnx.mp4
run --model {{out}}/models/best-int8.xml --source {{out}}/scenes.mp4 --conf 0.6 --save {{out}}/run-openvino.mp4
run --model {{out}}/models/best-int8.tflite --source {{out}}/scenes.mp4 --conf 0.6 --save {{out}}/run-tflite.mp4
report --reference {{out}}/train/best.pt --models {{out}}/prune/best.pt {INT8} --data {{out}}/scenes \
--extra 'real photographs={{out}}/scenes/annotations/instances_real.json' --name Demo -o {{out}}/report
"""
"""A model of one's own, from data to report."""


@click.command()
@click.option("--epochs", type=int, default=2, show_default=True, help="Training epochs.")
@click.option("--prune-epochs", type=int, default=1, show_default=True, help="Fine-tuning epochs after pruning.")
@click.option("--scenes", type=int, default=800, show_default=True, help="Number of training scenes.")
@click.option("--device", default="auto", show_default=True, help="Device for training: auto, cpu or cuda.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo_out"),
    show_default=True,
    help="Folder of all results.",
)
@overwrite_option
def command(epochs: int, prune_epochs: int, scenes: int, device: str, output: Path, overwrite: bool) -> None:
    """Run the people model, then train, prune, export, quantize, run and report on generated images. Takes minutes."""
    expect_installed(*(module for extra in NEEDED for module in EXTRAS[extra]))
    output = choose_output(output, overwrite=overwrite)
    start = time.monotonic()
    model = next(iter(list_shipped()), None)
    has_start = model is not None and model.checkpoint is not None
    own = OWN.replace("{start}", START if has_start else FRESH)
    if model is not None:
        photographs = model.photographs[0].parent
        type_all(chain(PEOPLE, output, photographs=photographs, moving=PHOTOGRAPHS))
        click.echo(
            f"\nThis took {_minutes(start)}. Look at {output / 'people'}. Next, the demo trains a model of its own."
        )
    type_all(chain(own, output, epochs=epochs, tuning=prune_epochs, scenes=scenes, device=device))
    click.echo(f"\nThe whole demo took {_minutes(start)}. Look at {output / 'report' / 'report.html'}")
    click.echo(f"and at {output / 'run-openvino.mp4'}; the models are in {output / 'models'}.")


def type_all(commands: list[list[str]]) -> None:
    """Run commands of edge-mrcnn one after the other, each shown as it is typed."""
    from edge_mrcnn.cli import group

    for arguments in commands:
        click.secho(f"\n$ edge-mrcnn {shlex.join(arguments)}", bold=True, err=True)
        group.main(arguments, standalone_mode=False)


def chain(text: str, output: Path, **values: object) -> list[list[str]]:
    """The commands of a text, each as its arguments.

    Args:
        text: A command a line.
        output: Folder for everything.
        values: What else the text names in braces.
    """
    lines = text.strip().splitlines()
    return [[word.format(out=output, **values) for word in shlex.split(line)] for line in lines]


def _minutes(start: float) -> str:
    """Time since then, in words."""
    return f"{(time.monotonic() - start) / 60:.1f} minutes"

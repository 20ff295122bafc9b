"""`edge-mrcnn verify`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import runtimes
from edge_mrcnn.cli.options import comma_list, name_next
from runtimes import golden
from runtimes.board import read_board
from runtimes.errors import GateError, ModelFileError
from runtimes.known_faults import advise
from runtimes.parity import Parity, Tolerance


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the runtime's choice].")
@click.option("--providers", help="ONNX: execution providers in order of preference, separated by commas.")
@click.option(
    "--device", help="Device to run on. OpenVINO: cpu, gpu, npu, ...; ONNX: cpu, cuda, tensorrt, openvino, ..."
)
@click.option("--precision", help="OpenVINO: precision of float layers: f32, f16, bf16 or auto [default: f32].")
@click.option(
    "--integer/--no-integer",
    default=None,
    help="OpenVINO: compute INT8 layers with integers or in float [default: integers, if OpenVINO supports them here].",
)
@click.option(
    "--remove", is_flag=True, help="Remove the golden tensors from the file instead of checking; saves tens of KB."
)
def command(
    model: Path, threads: int | None, providers: str | None, device: str | None, precision: str | None,
    integer: bool | None, remove: bool,
) -> None:  # fmt: skip
    """Check that a model computes the same on this device as on the machine that exported it. Needs no torch."""
    if remove:
        golden.remove(model)
        click.echo(f"wrote {model} without golden tensors")
        return
    asked: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "integer": integer,
        "providers": comma_list(providers) if providers else None,
    }
    options = {name: value for name, value in asked.items() if value is not None}
    record = golden.read(model)
    try:
        with runtimes.load(model, threads=threads, **options) as runtime:
            describe(model, runtime, record)
            outcomes = golden.check(runtime, record)
            tolerance = golden.tolerance_of(golden.precision_of(runtime))
    except ModelFileError as error:
        advice = advise(runtimes.read_card(model), read_board())
        raise ModelFileError("; ".join([str(error), *advice])) from error
    for line in table(outcomes, tolerance):
        click.echo(line)
    conclude(model, outcomes[-1])


def describe(model: Path, runtime: runtimes.Runtime, record: golden.Record) -> None:
    """Print the model, this device, and the machine of the record."""
    card = runtime.card
    height, width = card.input_size_hw
    here = [golden.describe_machine(card.target), str(read_board())]
    for name, value in runtime.describe().items():
        here.append(f"{name} {value}")
    click.echo(f"{model.name}: {card.name} {card.precision} {width}x{height}, made on {record.made_on}")
    click.echo(f"here: {', '.join(here)}\n")


def table(outcomes: list[golden.Outcome], tolerance: Tolerance) -> Iterator[str]:
    """The differences of each image and of all, as lines of text."""
    figure = {1.0: "largest", 0.5: "median"}.get(tolerance.quantile)
    figure = figure or f"{100 * tolerance.quantile:.0f} % quantile of the"
    own = f"   {figure} difference from its record"
    yield f"{'':<10}{own:<44}   from torch in FP32"
    heads = "".join(f"{head:>8}" for head in ("matched", "extra", "box px", "score", "mask"))
    yield f"{'picture':<10}{heads}    {heads}"
    for outcome in outcomes:
        expected, reference = figures_of(outcome.expected), figures_of(outcome.reference)
        result = "ok" if outcome.passes else "differs"
        yield f"{outcome.name:<10}{expected}    {reference}  {result}"
    limits = _columns(tolerance.box_px, tolerance.score, tolerance.mask)
    yield f"{'allowed':<10}{'':>16}{limits}"


def figures_of(parity: Parity) -> str:
    """The five columns of a comparison, with dashes if no detection was matched."""
    share = f"{parity.matched}/{parity.detections}"
    found = f"{share:>8}{parity.surplus:>8}"
    if not parity.matched:
        return found + f"{'–':>8}" * 3
    return found + _columns(parity.box_px, parity.score, parity.mask)


def _columns(*values: float) -> str:
    return "".join(f"{value:>8.2g}" for value in values)


def conclude(model: Path, outcome: golden.Outcome) -> None:
    """Print the verdict.

    Raises:
        GateError: If the differences exceed the tolerance.
    """
    checked = f"checked on {outcome.expected.detections} detections"
    if not outcome.passes:
        advice = advise(runtimes.read_card(model), read_board())
        if not advice:
            advice = ["try another version of the runtime, or the model in another format"]
        raise GateError("; ".join([f"{model}: wrong results on this device ({checked})", *advice]))
    if not outcome.expected.detections:
        click.echo(f"warning: {checked}: without detections this check says little", err=True)
    click.echo(f"\n{checked}: {model.name} computes the same here as on the machine that exported it")
    name_next("run", "--model", model, "--source", 0)

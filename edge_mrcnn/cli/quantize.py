"""`edge-mrcnn quantize`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli.options import comma_list, make_teller, name_next
from runtimes.errors import UsageError


@click.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="FP32 .onnx, .xml or .tflite.")
@click.option("--calib", required=True, help="Pictures: a folder, a manifest.json, or COCO data (its train split).")
@click.option("--calib-images", type=int, default=128, show_default=True, help="Calibration images at most.")
@click.option(
    "--keep-float", default="", help="What else stays float: backbone,fpn,rpn,box_head,mask_head or blocks of them."
)
@click.option(
    "--reduce-range", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
    help="INT8 weights in 7 bits, for x86 without VNNI [auto: if this processor is one].",
)  # fmt: skip
@click.option("--max-drop", type=click.FloatRange(0, 1), help="AP that may be lost, such as 0.003; needs --data.")
@click.option("--data", help="COCO data that the drop is measured on, never the calibration's.")
@click.option("--limit", type=click.IntRange(1), help="Images of it at most.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write [default: NAME-int8 beside it].")
def command(
    model: Path, calib: str, calib_images: int, keep_float: str, reduce_range: str, max_drop: float | None,
    data: str | None, limit: int | None, output: Path | None,
) -> None:  # fmt: skip
    """Turn an exported FP32 file into INT8. Needs no torch."""
    from quantize import CalibrationSet, QuantizeConfig, quantize

    if (max_drop is None) != (data is None):
        raise UsageError("--max-drop and --data belong together: the drop is measured on that data")
    output = output or model.with_name(f"{model.stem}-int8{model.suffix}")
    config = QuantizeConfig(images=calib_images, keep_float=comma_list(keep_float), reduce_range=reduce_range)
    if max_drop is None or data is None:
        quantize(model, output, CalibrationSet.load(calib), config)
    else:
        for line in search(
            model, output, CalibrationSet.load(calib), config, max_drop=max_drop, data=data, limit=limit
        ):
            click.echo(line)
    click.echo(f"wrote {output}")
    name_next("report", "--reference", model, "--models", output, "--data", data or "VAL.json")


def search(
    model: Path, output: Path, calibration: Any, config: Any, *, max_drop: float, data: str, limit: int | None
) -> Iterator[str]:
    """Quantize within a budget; what was found, as lines of text."""
    from edge_mrcnn.data.coco import load_coco
    from edge_mrcnn.report.drop import DropMeter
    from quantize import open_quantizer, sensitivity
    from runtimes import golden, read_card

    validation = load_coco(data)
    key = {
        "model": read_card(model).to_json(), "calibration": calibration.manifest_sha256, "images": config.images,
        "keep_float": config.keep_float, "weight_bits": config.weight_bits, "data": str(validation.path),
        "limit": limit,
    }  # fmt: skip
    journal = sensitivity.Journal(output.with_name(f"{output.name}.search.json"), key)
    tell = make_teller()
    quantizer = open_quantizer(model, calibration, config)
    probes = list(calibration.tensors_with_objects(model, sensitivity.PROBES, config.seed))
    ranking = sensitivity.rank_blocks(quantizer, model, probes, journal, tell)
    meter = DropMeter(model, validation, limit, tell)
    trials = sensitivity.keep_within(quantizer, ranking, output, max_drop, meter.measure, journal, tell)
    golden.renew(model, output)
    journal.close()
    yield from block_table(ranking, trials[-1].kept)
    yield from trial_table(ranking, trials)


def block_table(ranking: Sequence[Any], kept: Sequence[str]) -> Iterator[str]:
    """What INT8 in each block alone changes, and the time that float there costs."""
    width = max(len(one.block) for one in ranking)
    yield f"{'block':<{width}}  {'changes':>8}  {'costs ms':>8}"
    for one in ranking:
        mark = "  float" if one.block in kept else ""
        yield f"{one.block:<{width}}  {100 * one.error:>6.2f} %  {one.cost_ms:>8.2f}{mark}"


def trial_table(ranking: Sequence[Any], trials: Sequence[Any]) -> Iterator[str]:
    """The drop with each number of blocks in float, the time that they cost, and which trial was taken."""
    costs = {one.block: one.cost_ms for one in ranking}
    yield ""
    yield f"{'blocks in float':>15}  {'cost ms':>8}  {'drop of AP':>10}"
    for trial in sorted(trials, key=lambda trial: len(trial.kept)):
        cost = sum(costs[block] for block in trial.kept)
        mark = "  taken" if trial is trials[-1] else ""
        yield f"{len(trial.kept):>15}  {cost:>8.2f}  {trial.drop:>10.4f}{mark}"

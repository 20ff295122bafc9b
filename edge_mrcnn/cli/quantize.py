"""`edge-mrcnn quantize`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_mrcnn.cli.options import comma_list, name_next
from runtimes.bundle import model_file


@click.command()
@click.option("--model", required=True, type=click.Path(path_type=Path), help="FP32 .onnx, .xml or .tflite.")
@click.option("--calib", required=True, help="Pictures: a folder, a manifest.json, or COCO data (its train split).")
@click.option("--calib-images", type=int, default=128, show_default=True, help="Calibration images at most.")
@click.option("--keep-float", default="", help="Parts that stay float: backbone,fpn,rpn,box_head,mask_head.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write [default: NAME-int8 beside it].")
def command(model: Path, calib: str, calib_images: int, keep_float: str, output: Path | None) -> None:
    """Turn an exported FP32 file into INT8. Needs no torch."""
    from quantize import CalibrationSet, QuantizeConfig, quantize

    file = model_file(model)
    output = output or model.with_name(f"{file.stem}-int8{file.suffix}")
    config = QuantizeConfig(images=calib_images, keep_float=comma_list(keep_float))
    quantize(file, output, CalibrationSet.load(calib), config)
    click.echo(f"wrote {output}")
    name_next("report", "--reference", model, "--models", output, "--data", "VAL.json")

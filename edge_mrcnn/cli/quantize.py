"""`edge-mrcnn quantize`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_mrcnn.cli.int8 import int8_options, search
from edge_mrcnn.cli.options import comma_list, name_next
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from runtimes.errors import UsageError
from runtimes.model_file import ModelFile


@click.command()
@click.option(
    "--model",
    required=True,
    type=click.Path(path_type=Path),
    help="Exported FP32 model: .onnx, .xml, .tflite or a bundle.",
)
@click.option(
    "--calib", required=True, help="Calibration images: a folder, a manifest.json, or COCO data (its train split)."
)
@int8_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Output file [default: NAME-int8 beside the model]."
)
@overwrite_option
def command(
    model: Path, calib: str, calib_images: int, keep_float: str, reduce_range: str, effort: str,
    max_drop: float | None, data: str | None, limit: int | None, output: Path | None, overwrite: bool,
) -> None:  # fmt: skip
    """Quantize an exported FP32 file to INT8. Needs no torch."""
    from edge_mrcnn.data.calibration import load_calibration
    from quantize import QuantizeConfig, quantize

    if (max_drop is None) != (data is None):
        raise UsageError("expected --max-drop and --data together: the drop is measured on that data")
    file = ModelFile(model)
    output = choose_output(output or file.beside("-int8"), [*file.files, calib, data], overwrite=overwrite)
    floats = comma_list(keep_float)
    config = QuantizeConfig(images=calib_images, keep_float=floats, reduce_range=reduce_range, effort=effort)
    if max_drop is None or data is None:
        quantize(model, output, load_calibration(calib), config)
    else:
        for line in search(model, output, load_calibration(calib), config, max_drop=max_drop, data=data, limit=limit):
            click.echo(line)
    click.echo(f"wrote {output}")
    name_next("report", "--reference", model, "--models", output, "--data", data or "VAL.json")

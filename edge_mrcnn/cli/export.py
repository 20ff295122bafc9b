"""`edge-mrcnn export`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli.fields import SectionedCommand, given, setting_options, write_options
from edge_mrcnn.cli.int8 import int8_options, search
from edge_mrcnn.cli.options import comma_list, name_next, read_class_names
from edge_mrcnn.cli.origin import given_origin
from edge_mrcnn.cli.outputs import choose_output, overwrite_option
from edge_mrcnn.export.settings import ExportConfig
from edge_mrcnn.measure.files import file_size
from runtimes.errors import UsageError

SECTIONS = {
    "Options": (
        "weights", "targets", "int8", "calib", "data", "max_drop", "limit", "fp16", "image_size_hw", "output",
        "overwrite",
    ),
    "INT8": ("calib_images", "keep_float", "reduce_range", "effort"),
    "Detections of the file (default: as in the checkpoint)": (
        "score_threshold", "iou_threshold", "max_detections", "proposals", "roi_samples", "classes",
    ),
    "Form of the graph": ("batch", "static", "opset"),
}  # fmt: skip


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.option(
    "--weights",
    required=True,
    help="Checkpoint of `train`, torchvision, Detectron2 or MMDetection, or torchvision:maskrcnn_resnet50_fpn.",
)
@click.option("--calib", help="Calibration images for INT8: a folder, a manifest.json, or COCO data (its train split).")
@int8_options
@click.option("--classes", help="File with the class names: one per line, or a COCO JSON.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Output folder.  [default: the checkpoint's folder]"
)
@overwrite_option
@setting_options(ExportConfig, leave_out=("classes", "category_ids"))
def command(
    weights: str, calib: str | None, calib_images: int, keep_float: str, reduce_range: str, effort: str,
    max_drop: float | None, data: str | None, limit: int | None,
    classes: str | None, output: Path | None, overwrite: bool, **values: Any,
) -> None:  # fmt: skip
    """Export a checkpoint to ONNX, OpenVINO and TFLite, and verify each file against torch.

    Options come from the command line first, then from the --config file, then from the checkpoint. The options used
    are saved to export.toml in the output folder.
    """
    ctx = click.get_current_context()
    from edge_mrcnn.data.calibration import load_calibration
    from edge_mrcnn.export.pipeline import export
    from quantize import QuantizeConfig, quantize

    names, ids = read_class_names(classes) if classes else (None, None)
    config = ExportConfig(**given(values, ExportConfig), classes=names, category_ids=ids)
    if (max_drop is None) != (data is None) or max_drop is not None and not config.int8:
        raise UsageError("--max-drop needs --int8 and --data: the drop is measured on that data")
    quantization = QuantizeConfig(
        images=calib_images, keep_float=comma_list(keep_float), reduce_range=reduce_range, effort=effort
    )
    folder = output or Path(weights).parent
    files = export(
        weights, folder, config, origin=given_origin(),
        calibration=load_calibration(calib) if calib else None,
        quantization=quantization,
        write_int8=quantize if max_drop is None or data is None else make_searcher(max_drop, data, limit),
        overwrite=overwrite,
        say=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    # The folder is often that of the training, which keeps its own config.toml there.
    used = {**ctx.params, **asdict(config), "classes": classes}
    record = choose_output(folder / "export.toml", overwrite=overwrite)
    write_options(record, ctx, used, "edge-mrcnn export --config export.toml")
    for file in files:
        click.echo(f"wrote {file} ({file_size(file) / 1e6:.1f} MB)")
    name_next("report", "--reference", weights, "--models", *files, "--data", data or "VAL.json")


def make_searcher(max_drop: float, data: str, limit: int | None) -> Callable[..., None]:
    """A function that writes an INT8 file within a budget of lost AP; arguments as of `quantize.quantize`."""

    def write(model: Path, output: Path, calibration: Any, config: Any) -> None:
        click.echo(f"{output.name}:")
        for line in search(model, output, calibration, config, max_drop=max_drop, data=data, limit=limit):
            click.echo(line)

    return write

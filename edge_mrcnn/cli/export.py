"""`edge-mrcnn export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli.int8 import int8_options, search
from edge_mrcnn.cli.options import class_names, comma_list, image_size, name_next
from edge_mrcnn.export import TARGETS
from edge_mrcnn.measure.files import file_size
from runtimes.errors import UsageError


@click.command()
@click.option(
    "--weights", required=True, help="Checkpoint, or torchvision:maskrcnn_resnet50_fpn (or _v2), or its .pth."
)
@click.option("--target", default=",".join(TARGETS), show_default=True, help="Formats, separated by commas.")
@click.option("--fp16", is_flag=True, help="Also write files with learned layers in half precision.")
@click.option("--int8", is_flag=True, help="Also write INT8 files.")
@click.option("--calib", help="Pictures for INT8: a folder, a manifest.json, or COCO data (its train split).")
@int8_options
@click.option("--batch", type=int, default=1, show_default=True, help="Images per run (ONNX, OpenVINO).")
@click.option("--static", is_flag=True, help="D rows and no dynamic shape, for TensorRT and NPUs (ONNX, OpenVINO).")
@click.option("--opset", type=int, default=18, show_default=True, help="Opset of the ONNX file, 18 to 21.")
@click.option("--classes", callback=class_names, help="Names of the classes: a line each, or a COCO JSON file.")
@click.option("--imgsz", callback=image_size, help="Input size, S or HxW [default: the checkpoint's].")
@click.option("--proposals", type=int, help="P, proposals that reach the box head.")
@click.option("--max-det", type=int, help="D, detections at most.")
@click.option("--roi-samples", type=int, help="Samples per bin and axis of RoIAlign.")
@click.option("--conf", type=float, help="Lowest score that the file produces.")
@click.option("--iou", type=float, help="IoU of the class-wise NMS.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder [default: beside the checkpoint].")
def command(
    weights: str, target: str, fp16: bool, int8: bool, calib: str | None, calib_images: int, keep_float: str,
    reduce_range: str, max_drop: float | None, data: str | None, limit: int | None,
    batch: int, static: bool, opset: int, classes: tuple[tuple[str, ...], tuple[int, ...]] | None,
    imgsz: tuple[int, int] | None, proposals: int | None, max_det: int | None, conf: float | None,
    iou: float | None, roi_samples: int | None, output: Path | None,
) -> None:  # fmt: skip
    """Write a checkpoint as ONNX, OpenVINO and TFLite, verified against torch."""
    from edge_mrcnn.export.pipeline import ExportConfig, export
    from quantize import CalibrationSet, QuantizeConfig, quantize

    if (max_drop is None) != (data is None) or max_drop is not None and not int8:
        raise UsageError("--max-drop needs --int8 and --data: the drop is measured on that data")
    config = ExportConfig(
        targets=comma_list(target), fp16=fp16, int8=int8, batch=batch, static=static, opset=opset,
        proposals=proposals, max_detections=max_det, score_threshold=conf, iou_threshold=iou, image_size_hw=imgsz,
        roi_samples=roi_samples, classes=classes and classes[0], category_ids=classes and classes[1],
    )  # fmt: skip
    files = export(
        weights, output or Path(weights).parent, config,
        calibration=CalibrationSet.load(calib) if calib else None,
        quantization=QuantizeConfig(images=calib_images, keep_float=comma_list(keep_float), reduce_range=reduce_range),
        write_int8=quantize if max_drop is None or data is None else make_searcher(max_drop, data, limit),
        say=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    for file in files:
        click.echo(f"wrote {file} ({file_size(file) / 1e6:.1f} MB)")
    name_next("report", "--reference", weights, "--models", *files, "--data", data or "VAL.json")


def make_searcher(max_drop: float, data: str, limit: int | None) -> Callable[..., None]:
    """What writes an INT8 file within a budget and prints what stayed float; arguments as of `quantize.quantize`."""

    def write(model: Path, output: Path, calibration: Any, config: Any) -> None:
        click.echo(f"{output.name}:")
        for line in search(model, output, calibration, config, max_drop=max_drop, data=data, limit=limit):
            click.echo(line)

    return write

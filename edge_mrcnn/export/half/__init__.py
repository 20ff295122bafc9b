"""Half precision: from an FP32 model file to one with its learned layers in FP16.

Half the size; faster on hardware with native FP16: GPUs, NPUs and newer Arm cores. The layers in float are the same as
in INT8, see `quantize.parts`: predictors and all box arithmetic.
"""

from __future__ import annotations

from pathlib import Path

from runtimes.formats.jobs import find_job
from runtimes.model_file import ModelFile

TARGETS = {
    "onnx": "edge_mrcnn.export.half.onnx_file:halve_onnx",
    "openvino": "edge_mrcnn.export.half.openvino_file:halve_openvino",
    "tflite": "edge_mrcnn.export.half.tflite_file:halve_tflite",
}
"""Format -> function that reads one file and writes another in half precision; the card is added afterwards."""


def halve(model: Path, output: Path) -> None:
    """Write an FP32 model of `edge-mrcnn export` in half precision.

    Args:
        model: FP32 file.
        output: Output file, with the same suffix.

    Raises:
        MissingExtraError: If a package that this format needs is not installed.
    """
    file = ModelFile(model)
    write = find_job(TARGETS, file.format.name, "FP16", name=file, install="'edge-mrcnn[export]'")
    write(file.path, output)
    ModelFile(output).write_card(file.card.updated(precision="fp16"))


__all__ = ["TARGETS", "halve"]

"""Half precision: an FP32 artefact in, one with its learned layers in FP16 out.

Half the size; faster where the hardware multiplies halves, as GPUs, NPUs and newer Arm cores do. What stays in float is
what stays in float under INT8, see `quantize.parts`: predictors and all arithmetic of boxes.
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
"""Format -> what reads one file and writes another in half precision; the card comes afterwards."""


def halve(model: Path, output: Path) -> None:
    """Write an FP32 artefact of `edge-mrcnn export` in half precision.

    Args:
        model: FP32 file.
        output: File to write, with the same suffix.

    Raises:
        MissingExtraError: If a package that this format needs is not installed.
    """
    file = ModelFile(model)
    write = find_job(TARGETS, file.format.name, "FP16", name=file, install="'edge-mrcnn[export]'")
    write(file.path, output)
    ModelFile(output).write_card(file.card.updated(precision="fp16"))


__all__ = ["TARGETS", "halve"]

"""Half precision: an FP32 artefact in, one with its learned layers in FP16 out.

Half the size; faster where the hardware multiplies halves, as GPUs, NPUs and newer Arm cores do. What stays in float is
what stays in float under INT8, see `quantize.parts`: predictors and all arithmetic of boxes.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

from runtimes.errors import MissingExtraError

TARGETS = {  # suffix -> writer
    ".onnx": "edge_mrcnn.export.half.onnx_file:halve_onnx",
    ".xml": "edge_mrcnn.export.half.openvino_file:halve_openvino",
    ".tflite": "edge_mrcnn.export.half.tflite_file:halve_tflite",
}


def halve(model: Path, output: Path) -> None:
    """Write an FP32 artefact of `edge-mrcnn export` in half precision.

    Args:
        model: FP32 file.
        output: File to write, with the same suffix.

    Raises:
        MissingExtraError: If a package that this format needs is not installed.
    """
    try:
        write = pkgutil.resolve_name(TARGETS[model.suffix])
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{model}: FP16 needs {error.name}: pip install 'edge-mrcnn[export]'") from error
    write(model, output)


__all__ = ["TARGETS", "halve"]

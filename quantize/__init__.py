"""INT8 after training: an FP32 artefact and calibration images in, an INT8 artefact out.

It reads and writes files and knows nothing of torch; the model card inside the file says the rest.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

from quantize.calibration import CalibrationSet
from quantize.settings import QuantizeConfig
from runtimes import golden
from runtimes.errors import MissingExtraError, MissingFileError, UnknownFormatError

TARGETS = {  # suffix -> (function, pip extra)
    ".onnx": ("quantize.onnx_target:quantize_onnx", "export"),
    ".xml": ("quantize.openvino_target:quantize_openvino", "export"),
    ".tflite": ("quantize.tflite_target:quantize_tflite", "export"),
}


def quantize(
    model: str | Path, output: str | Path, calibration: CalibrationSet, config: QuantizeConfig | None = None
) -> Path:
    """Turn an FP32 artefact into an INT8 one of the same format.

    Args:
        model: File that `edge-mrcnn export` wrote.
        output: File to write, with the same suffix.
        calibration: Pictures like those that the camera will see.
        config: How to quantize.

    Returns:
        `output`.

    Raises:
        MissingFileError: If the model is not there.
        UnknownFormatError: If its suffix is not in `TARGETS`.
        MissingExtraError: If the packages that quantize this format are not installed.
    """
    model, output = Path(model), Path(output)
    if not model.is_file():
        raise MissingFileError(f"{model}: no such model file")
    if model.suffix not in TARGETS:
        raise UnknownFormatError(f"{model}: expected one of {', '.join(TARGETS)}")
    function, extra = TARGETS[model.suffix]
    try:
        run = pkgutil.resolve_name(function)
    except ModuleNotFoundError as error:
        hint = f"pip install 'edge-mrcnn[{extra}]'"
        raise MissingExtraError(f"quantizing {model.suffix} needs {error.name}: {hint}") from error
    output.parent.mkdir(parents=True, exist_ok=True)
    run(model, output, calibration, config or QuantizeConfig())
    golden.renew(model, output)
    return output


__all__ = ["TARGETS", "CalibrationSet", "QuantizeConfig", "quantize"]

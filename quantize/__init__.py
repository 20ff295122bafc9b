"""INT8 after training: an FP32 artefact and calibration images in, an INT8 artefact out.

It reads and writes files and knows nothing of torch; the model card inside the file says the rest.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

from quantize.base import Quantizer
from quantize.calibration import CalibrationSet
from quantize.settings import QuantizeConfig
from runtimes import golden
from runtimes.errors import MissingExtraError, MissingFileError, UnknownFormatError

TARGETS = {  # suffix -> (quantizer, pip extra)
    ".onnx": ("quantize.onnx_target:OnnxQuantizer", "export"),
    ".xml": ("quantize.openvino_target:OpenvinoQuantizer", "export"),
    ".tflite": ("quantize.tflite_target:TfliteQuantizer", "export"),
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
        UsageError: If a block that is to stay in float is not there.
    """
    model, output = Path(model), Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    open_quantizer(model, calibration, config).save(output)
    golden.renew(model, output)
    return output


def open_quantizer(model: str | Path, calibration: CalibrationSet, config: QuantizeConfig | None = None) -> Quantizer:
    """Measure the ranges of an FP32 artefact, for one or several INT8 files.

    Arguments and errors are those of `quantize`.
    """
    model = Path(model)
    if not model.is_file():
        raise MissingFileError(f"{model}: no such model file")
    if model.suffix not in TARGETS:
        raise UnknownFormatError(f"{model}: expected one of {', '.join(TARGETS)}")
    name, extra = TARGETS[model.suffix]
    try:
        kind = pkgutil.resolve_name(name)
    except ModuleNotFoundError as error:
        hint = f"pip install 'edge-mrcnn[{extra}]'"
        raise MissingExtraError(f"quantizing {model.suffix} needs {error.name}: {hint}") from error
    quantizer: Quantizer = kind(model, calibration, config or QuantizeConfig())
    return quantizer


__all__ = ["TARGETS", "CalibrationSet", "QuantizeConfig", "Quantizer", "open_quantizer", "quantize"]

"""INT8 post-training quantization: from an FP32 model file and calibration images to an INT8 file.

It reads and writes files and needs no torch; the model card in the file has all further information.
"""

from __future__ import annotations

from pathlib import Path

from quantize.base import Quantizer
from quantize.calibration import CalibrationSet
from quantize.doubts import check_pictures
from quantize.settings import QuantizeConfig
from runtimes import golden
from runtimes.errors import UsageError
from runtimes.formats.jobs import find_job
from runtimes.model_file import ModelFile

TARGETS = {
    "onnx": "quantize.onnx_target:OnnxQuantizer",
    "openvino": "quantize.openvino_target:OpenvinoQuantizer",
    "tflite": "quantize.tflite_target:TfliteQuantizer",
}
"""Format -> its quantizer: a `Quantizer` made from (ModelFile, CalibrationSet, QuantizeConfig)."""


def quantize(
    model: str | Path | ModelFile,
    output: str | Path,
    calibration: CalibrationSet | str | Path,
    config: QuantizeConfig | None = None,
) -> Path:
    """Quantize an FP32 model file to an INT8 file of the same format.

    Args:
        model: File that `edge-mrcnn export` wrote, or a bundle with one.
        output: Output file, with the suffix of the format.
        calibration: Calibration images, like those that the camera will see, or their path: see `CalibrationSet.load`.
        config: Settings of the quantization.

    Returns:
        `output`.

    Raises:
        MissingFileError: If the model does not exist.
        UnknownFormatError: If its format is not in `TARGETS`.
        MissingExtraError: If the packages that quantize this format are not installed.
        UsageError: If a block to keep in float does not exist, or the model is not FP32.
        DataError: If no calibration image is a photograph.
    """
    model, output = ModelFile(model), Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    open_quantizer(model, calibration, config).save(output)
    golden.renew(model, output)
    return output


def open_quantizer(
    model: str | Path | ModelFile, calibration: CalibrationSet | str | Path, config: QuantizeConfig | None = None
) -> Quantizer:
    """Measure the ranges of an FP32 model file, for one or several INT8 files.

    Arguments and errors are those of `quantize`.
    """
    file = ModelFile(model)
    settings = config or QuantizeConfig()
    if file.card.precision != "fp32":
        raise UsageError(f"{file}: is already {file.card.precision.upper()}; quantize the FP32 file instead")
    pictures = calibration if isinstance(calibration, CalibrationSet) else CalibrationSet.load(calibration)
    check_pictures(pictures, settings.images, settings.seed)
    kind = find_job(TARGETS, file.format.name, "quantizing", name=file, install="'edge-mrcnn[export]'")
    quantizer: Quantizer = kind(file, pictures, settings)
    return quantizer


__all__ = ["TARGETS", "CalibrationSet", "QuantizeConfig", "Quantizer", "open_quantizer", "quantize"]

"""INT8 after training: an FP32 artefact and calibration images in, an INT8 artefact out.

It reads and writes files and knows nothing of torch; the model card inside the file says the rest.
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
    """Turn an FP32 artefact into an INT8 one of the same format.

    Args:
        model: File that `edge-mrcnn export` wrote, or a bundle with one.
        output: File to write, with the suffix of the format.
        calibration: Pictures like those that the camera will see, or where they are: see `CalibrationSet.load`.
        config: How to quantize.

    Returns:
        `output`.

    Raises:
        MissingFileError: If the model is not there.
        UnknownFormatError: If its format is not in `TARGETS`.
        MissingExtraError: If the packages that quantize this format are not installed.
        UsageError: If a block that is to stay in float is not there, or the model is not FP32.
        DataError: If no calibration picture is a photograph.
    """
    model, output = ModelFile(model), Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    open_quantizer(model, calibration, config).save(output)
    golden.renew(model, output)
    return output


def open_quantizer(
    model: str | Path | ModelFile, calibration: CalibrationSet | str | Path, config: QuantizeConfig | None = None
) -> Quantizer:
    """Measure the ranges of an FP32 artefact, for one or several INT8 files.

    Arguments and errors are those of `quantize`.
    """
    file = ModelFile(model)
    settings = config or QuantizeConfig()
    if file.card.precision != "fp32":
        raise UsageError(
            f"{file}: is {file.card.precision.upper()} already; quantize the FP32 file that it was made from"
        )
    pictures = calibration if isinstance(calibration, CalibrationSet) else CalibrationSet.load(calibration)
    check_pictures(pictures, settings.images, settings.seed)
    kind = find_job(TARGETS, file.format.name, "quantizing", name=file, install="'edge-mrcnn[export]'")
    quantizer: Quantizer = kind(file, pictures, settings)
    return quantizer


__all__ = ["TARGETS", "CalibrationSet", "QuantizeConfig", "Quantizer", "open_quantizer", "quantize"]

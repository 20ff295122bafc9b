"""INT8 for ONNX Runtime: Q/DQ with asymmetric activations and symmetric per-channel weights.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from quantize.calibration import CalibrationSet
from quantize.parts import is_quantized, provenance
from quantize.settings import QuantizeConfig
from runtimes.model_card import CARD_KEY, ModelCard
from runtimes.onnx_backend import read_card
from runtimes.seal import write_seal

FLOAT_TYPES = ("ConvTranspose",)
"""Operators that ONNX Runtime has no integer kernel for on CPUs."""


class TensorReader(CalibrationDataReader):  # type: ignore[misc]
    """Calibration tensors in the form that ONNX Runtime asks for, one at a time."""

    def __init__(self, tensors: Iterator[Any]) -> None:
        self._tensors = tensors

    def get_next(self) -> dict[str, Any] | None:
        """The next input, or None at the end."""
        tensor = next(self._tensors, None)
        return None if tensor is None else {"image": tensor}


def quantize_onnx(model: Path, output: Path, calibration: CalibrationSet, config: QuantizeConfig) -> None:
    """Quantize the learned layers of an ONNX artefact.

    Args:
        model: FP32 .onnx file of `edge-mrcnn export`.
        output: File to write.
        calibration: Pictures.
        config: How.
    """
    card = read_card(model)
    proto = onnx.load(model)
    stem = next(node.name for node in proto.graph.node if node.op_type == "Conv")
    nodes = [node for node in proto.graph.node if node.op_type not in FLOAT_TYPES and node.name != stem]
    chosen = [node.name for node in nodes if is_quantized(node.name, config.keep_float)]
    logging.getLogger().disabled, was = True, logging.getLogger().disabled
    try:
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "float.onnx"
            onnx.save(proto, plain)
            quantize_static(
                plain, output, TensorReader(calibration.tensors_with_objects(model, config.images, config.seed)),
                quant_format=QuantFormat.QDQ, per_channel=True, nodes_to_quantize=chosen,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.05},
            )  # fmt: skip
    finally:
        logging.getLogger().disabled = was
    _store_card(output, card.updated(precision="int8", calibration=provenance(calibration, config)))


def _store_card(path: Path, card: ModelCard) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    write_seal(path)

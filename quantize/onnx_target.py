"""INT8 for ONNX Runtime: Q/DQ with asymmetric activations and symmetric per-channel weights.

A static artefact is meant for TensorRT, which takes nothing but int8 with zero point 0: it gets symmetric activations.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from quantize.base import Quantizer
from quantize.calibration import CalibrationSet
from quantize.parts import block_of, is_quantized, provenance
from quantize.settings import QuantizeConfig
from runtimes.model_card import CARD_KEY, ModelCard
from runtimes.onnx_backend import read_card
from runtimes.seal import write_seal

FLOAT_TYPES = ("ConvTranspose",)
"""Operators that ONNX Runtime has no integer kernel for on CPUs."""

ASYMMETRIC: dict[str, Any] = {"activation_qType": QuantType.QUInt8, "extra_options": {}}
SYMMETRIC: dict[str, Any] = {
    "activation_qType": QuantType.QInt8,
    # TensorRT adds biases in float, and fuses a layer with Q/DQ pairs that no other layer shares.
    "extra_options": {"ActivationSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True},
}
"""How activations are quantized."""

KNOWN_TYPES = sorted({*QDQRegistry, *QLinearOpsRegistry})
"""Operators that ONNX Runtime's quantizer knows."""


class OnnxQuantizer(Quantizer):
    """An FP32 ONNX artefact and its ranges."""

    def __init__(self, model: Path, calibration: CalibrationSet, config: QuantizeConfig) -> None:
        """Run the model on the calibration pictures.

        Args:
            model: FP32 .onnx file of `edge-mrcnn export`.
            calibration: Pictures.
            config: How.

        Raises:
            DataError: If the model finds nothing in any picture.
        """
        super().__init__(read_card(model), calibration, config)
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "float.onnx"
            onnx.save(onnx.load(model), plain)
            self._float = load_model_with_shape_infer(plain)
            self._ranges = self._measure(plain, model)
        stem = next(node.name for node in self._float.graph.node if node.op_type == "Conv")
        self._nodes = [n.name for n in self._float.graph.node if n.op_type not in FLOAT_TYPES and n.name != stem]

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(block for name in self._nodes if (block := block_of(name))))

    def write(self, output: Path, keep_float: Collection[str], *, is_draft: bool = False) -> None:
        nodes = [name for name in self._nodes if is_quantized(name, keep_float)]
        tool = QDQQuantizer(
            copy.deepcopy(self._float), per_channel=True, weight_qType=QuantType.QInt8,
            reduce_range=self.config.weight_bits == 7,
            tensors_range=self._ranges, nodes_to_quantize=nodes, nodes_to_exclude=[],
            op_types_to_quantize=KNOWN_TYPES if nodes else [],
            **(SYMMETRIC if self.card.rows == "static" else ASYMMETRIC),
        )  # fmt: skip
        tool.quantize_model()
        tool.model.save_model_to_file(str(output), False)
        slim(output)
        said = provenance(self.calibration, self.config, keep_float, weight_bits=self.config.weight_bits)
        _store_card(output, self.card.updated(precision="int8", calibration=said))

    def _measure(self, plain: Path, model: Path) -> Any:
        """The range of each tensor, a moving average over the pictures of its smallest and largest value."""
        settings = {"moving_average": True, "averaging_constant": 0.05}
        tensors = self.calibration.tensors_with_objects(model, self.config.images, self.config.seed)
        augmented = plain.with_name("augmented.onnx")
        tool = create_calibrator(plain, KNOWN_TYPES, str(augmented), CalibrationMethod.MinMax, extra_options=settings)
        tool.collect_data(TensorReader(tensors))
        return tool.compute_data()


class TensorReader(CalibrationDataReader):  # type: ignore[misc]
    """Calibration tensors in the form that ONNX Runtime asks for, one at a time."""

    def __init__(self, tensors: Iterator[Any]) -> None:
        self._tensors = tensors

    def get_next(self) -> dict[str, Any] | None:
        """The next input, or None at the end."""
        tensor = next(self._tensors, None)
        return None if tensor is None else {"image": tensor}


def slim(path: Path) -> None:
    """Leave out what no runtime reads, in place: shapes in between, which are inferred, and names of Q/DQ nodes."""
    model = onnx.load(path)
    del model.graph.value_info[:]
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.ClearField("name")
    onnx.save(model, path)


def _store_card(path: Path, card: ModelCard) -> None:
    model = onnx.load(path)
    description = {p.key: p.value for p in model.metadata_props if p.key.startswith("model_info ")}  # for model_api
    onnx.helper.set_model_props(model, {CARD_KEY: card.to_json(), **description})
    onnx.save(model, path)
    write_seal(path)

"""INT8 for ONNX Runtime: Q/DQ with asymmetric activations and symmetric per-channel weights.

If a model only divides an image's bytes by 255, its first convolution multiplies the bytes themselves. A static file is
for TensorRT, which only supports int8 with zero point 0: it gets symmetric activations, and a first convolution in
float, because these cannot represent an image's bytes.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from quantize.base import Quantizer, provenance
from quantize.calibration import CalibrationSet
from quantize.pace import tell_pace
from quantize.parts import FLOAT_STEM, NO_KERNEL, PIXEL, block_of, is_quantized
from quantize.settings import QuantizeConfig
from runtimes.errors import ModelFileError
from runtimes.model_file import ModelFile

ASYMMETRIC: dict[str, Any] = {"activation_qType": QuantType.QUInt8, "extra_options": {}}
SYMMETRIC: dict[str, Any] = {
    "activation_qType": QuantType.QInt8,
    # TensorRT adds biases in float, and only fuses Q/DQ pairs that are not shared between layers.
    "extra_options": {"ActivationSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True},
}
"""How activations are quantized."""

WIDE_STEM = {"first convolution": "a picture's bytes, 0 to 255, are more than int8 without zero point holds"}
"""Why it stays in float in a static file of a model that only divides bytes by 255."""

KNOWN_TYPES = sorted({*QDQRegistry, *QLinearOpsRegistry})
"""Operators that ONNX Runtime's quantizer supports."""


class OnnxQuantizer(Quantizer):
    """An FP32 ONNX file and its ranges."""

    def __init__(self, model: ModelFile, calibration: CalibrationSet, config: QuantizeConfig) -> None:
        """Run the model on the calibration images.

        Args:
            model: FP32 ONNX file of `edge-mrcnn export`.
            calibration: Calibration images.
            config: Settings of the quantization.

        Raises:
            DataError: If there are no detections in any image.
        """
        super().__init__(model.card, calibration, config)
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "float.onnx"
            onnx.save(onnx.load(model.path), plain)
            self._float = load_model_with_shape_infer(plain)
            self._ranges = self._measure(plain, model)
        self._stem = find_stem(self._float.graph)
        self._float_stem = self._reason_of_stem()
        if not self._float_stem:
            self._ranges[self._stem.input[0]] = TensorData(lowest=np.float32(0), highest=np.float32(1))
            self._rounded = self._round()
        left_out = {self._stem.name} if self._float_stem else set()
        self._nodes: list[str] = []
        for node in self._float.graph.node:
            if node.op_type not in NO_KERNEL["onnx"] and node.name not in left_out:
                self._nodes.append(node.name)

    @property
    def blocks(self) -> tuple[str, ...]:
        found: dict[str, None] = {}  # in order of first occurrence
        for name in self._nodes:
            block = block_of(name)
            if block:
                found[block] = None
        return tuple(found)

    def write(self, output: Path, keep_float: Collection[str], *, is_draft: bool = False) -> None:
        nodes = [name for name in self._nodes if is_quantized(name, keep_float)]
        is_stem_integer = not self._float_stem and self._stem.name in nodes
        plain = self._rounded if is_stem_integer else self._float
        activations = SYMMETRIC if self.card.rows == "static" else ASYMMETRIC
        tool = QDQQuantizer(
            copy.deepcopy(plain),
            per_channel=True,
            weight_qType=QuantType.QInt8,
            reduce_range=self.config.weight_bits == 7,
            tensors_range=self._ranges,
            nodes_to_quantize=nodes,
            nodes_to_exclude=[],
            op_types_to_quantize=KNOWN_TYPES if nodes else [],
            **activations,
        )
        tool.quantize_model()
        if is_stem_integer:
            feed_bytes(tool.model.graph())
        tool.model.save_model_to_file(str(output), False)
        slim(output)
        bits = self.config.weight_bits
        said = provenance(self.calibration, self.config, keep_float, self._float_stem, weight_bits=bits)
        ModelFile(output).write_card(self.card.updated(precision="int8", calibration=said))

    def _reason_of_stem(self) -> dict[str, str]:
        """Why the first convolution stays in float, None if it does not."""
        if not reads_pixels(self._float.graph):
            return FLOAT_STEM
        return WIDE_STEM if self.card.rows == "static" else {}

    def _round(self) -> onnx.ModelProto:
        """The float model with weights of the first convolution rounded to 8 bits."""
        model: onnx.ModelProto = copy.deepcopy(self._float)
        weights = find_constant(model.graph, self._stem.input[1])
        assert weights is not None, "the weights of a convolution are a constant"
        rounded = self.round_stem(onnx.numpy_helper.to_array(weights))
        weights.CopyFrom(onnx.numpy_helper.from_array(rounded, weights.name))
        return model

    def _measure(self, plain: Path, model: ModelFile) -> Any:
        """The range of each tensor: a moving average over the images of its smallest and largest value."""
        settings = {"moving_average": True, "averaging_constant": 0.05}
        tensors = self.calibration.tensors_with_objects(model, self.config.images, self.config.seed)
        augmented = plain.with_name("augmented.onnx")
        tool = create_calibrator(plain, KNOWN_TYPES, str(augmented), CalibrationMethod.MinMax, extra_options=settings)
        count = len(self.calibration.choose(self.config.images, self.config.seed))
        tool.collect_data(TensorReader(tell_pace(tensors, count, model.name)))
        return tool.compute_data()


class TensorReader(CalibrationDataReader):  # type: ignore[misc]
    """Calibration tensors as ONNX Runtime reads them, one at a time."""

    def __init__(self, tensors: Iterator[Any]) -> None:
        self._tensors = tensors

    def get_next(self) -> dict[str, Any] | None:
        """The next input, or None at the end."""
        tensor = next(self._tensors, None)
        return None if tensor is None else {"image": tensor}


def find_stem(graph: onnx.GraphProto) -> onnx.NodeProto:
    """The first convolution."""
    stem: onnx.NodeProto | None = next((node for node in graph.node if node.op_type == "Conv"), None)
    if stem is None:
        raise ModelFileError("the model has no convolution, so there is nothing to quantize")
    return stem


def find_constant(graph: onnx.GraphProto, name: str) -> onnx.TensorProto | None:
    """A constant by its name; None for computed values."""
    constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
    return constants.get(name)


def nodes_before(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """The nodes between the image and a tensor, the last one first."""
    makers = {}
    for node in graph.node:
        for output in node.output:
            makers[output] = node
    found = []
    while name in makers:
        found.append(makers[name])
        name = makers[name].input[0]
    return found


def reads_pixels(graph: onnx.GraphProto) -> bool:
    """Whether the first convolution reads the image's bytes times `PIXEL` and nothing else."""
    before = nodes_before(graph, find_stem(graph).input[0])
    if [node.op_type for node in before] != ["Mul", "Transpose", "Cast"]:
        return False
    scale = before[0]
    factor = find_constant(graph, scale.input[1])
    if factor is None:
        return False
    return np.allclose(onnx.numpy_helper.to_array(factor), PIXEL, rtol=1e-6, atol=0)


def feed_bytes(graph: onnx.GraphProto) -> None:
    """Connect the quantized first convolution directly to the image, in place, instead of a float copy rounded to
    bytes."""
    _, quantize, scale, transpose, cast = nodes_before(graph, find_stem(graph).input[0])
    transpose.input[0] = cast.input[0]
    transpose.output[0] = quantize.output[0]
    for node in (cast, scale, quantize):
        graph.node.remove(node)
    graph.initializer.remove(find_constant(graph, scale.input[1]))


def slim(path: Path) -> None:
    """Remove what no runtime reads, in place: intermediate shapes, which are inferred, and names of Q/DQ nodes.

    Properties that model_api reads are kept.
    """
    model = onnx.load(path)
    described = {}
    for entry in model.metadata_props:
        if entry.key.startswith("model_info "):
            described[entry.key] = entry.value
    onnx.helper.set_model_props(model, described)
    del model.graph.value_info[:]
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.ClearField("name")
    onnx.save(model, path)

"""INT8 for OpenVINO by NNCF's post-training quantization.

https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

from __future__ import annotations

import logging
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from contextlib import redirect_stdout
from pathlib import Path

import nncf
import numpy as np
import openvino
from nncf.quantization.advanced_parameters import OverflowFix
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from openvino import opset13

from quantize.base import Quantizer, provenance
from quantize.calibration import CalibrationSet
from quantize.parts import FLOAT_STEM, block_of, is_quantized
from quantize.settings import QuantizeConfig
from runtimes.model_file import ModelFile

DRAFT_IMAGES = 16
"""Number of calibration images of a draft."""
QUICK_RANGES = RangeEstimatorParametersSet.MINMAX
"""Are found inside the graph, where histograms need every value of every layer at once; see docs/int8.md."""


class OpenvinoQuantizer(Quantizer):
    """An FP32 OpenVINO file and its calibration tensors."""

    def __init__(self, model: ModelFile, calibration: CalibrationSet, config: QuantizeConfig) -> None:
        """Select the calibration images.

        Args:
            model: FP32 OpenVINO file of `edge-mrcnn export`.
            calibration: Calibration images.
            config: Settings of the quantization.

        Raises:
            DataError: If there are no detections in any image.
        """
        super().__init__(model.card, calibration, config)
        self._model = model.path
        self._tensors = list(calibration.tensors_with_objects(model, config.images, config.seed))
        plain = openvino.Core().read_model(model.path)
        self._nodes = []
        for node in plain.get_ordered_ops():
            if node.get_type_name() not in _PASSIVE:
                self._nodes.append((node.get_friendly_name(), node.get_type_name()))
        stem = find_stem(plain)
        self._stem = stem.get_friendly_name()
        self._float_stem = None
        self._rounded = None
        if reads_pixels(stem):
            weights = stem.input_value(1).get_node()
            self._rounded = self.round_stem(np.array(weights.get_data()))
        else:
            self._float_stem = self._stem

    @property
    def blocks(self) -> tuple[str, ...]:
        found: dict[str, None] = {}  # in order of first occurrence
        for name, kind in self._nodes:
            block = block_of(name)
            if kind in _LEARNED and name != self._float_stem and block:
                found[block] = None
        return tuple(found)

    def write(self, output: Path, keep_float: Collection[str], *, is_draft: bool = False) -> None:
        nncf.set_log_level(logging.ERROR)
        model = openvino.Core().read_model(self._model)
        floats = self._float_nodes(keep_float)
        if self._rounded is not None and self._stem not in floats:
            weights = opset13.constant(self._rounded)
            find_stem(model).input(1).replace_source_output(weights.output(0))
        is_quick = self.config.is_quick(self.card.parameters)
        with redirect_stdout(sys.stderr):  # NNCF prints progress bars to stdout
            quantized = nncf.quantize(
                model,
                nncf.Dataset(self._tensors),
                preset=nncf.QuantizationPreset.MIXED,
                target_device=nncf.TargetDevice.CPU,
                subset_size=DRAFT_IMAGES if is_draft else len(self._tensors),
                fast_bias_correction=is_draft or is_quick,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    activations_range_estimator_params=QUICK_RANGES
                    if is_quick
                    else RangeEstimatorParametersSet.HISTOGRAM,
                    overflow_fix=OverflowFix.ENABLE if self.config.weight_bits == 7 else OverflowFix.DISABLE,
                ),
                ignored_scope=nncf.IgnoredScope(names=floats, validate=False),
            )
        if not self._float_stem:
            take_all_bytes(find_stem(quantized))
        reason = FLOAT_STEM if self._float_stem else None
        said = provenance(self.calibration, self.config, keep_float, reason, weight_bits=self.config.weight_bits)
        openvino.save_model(quantized, output, compress_to_fp16=False)
        slim(output)
        ModelFile(output).write_card(self.card.updated(precision="int8", calibration=said))

    def _float_nodes(self, keep_float: Collection[str]) -> list[str]:
        names = []
        for name, _ in self._nodes:
            if name == self._float_stem or not is_quantized(name, keep_float):
                names.append(name)
        return names


def find_stem(model: openvino.Model) -> openvino.Node:
    """The first convolution."""
    return next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")


def reads_pixels(stem: openvino.Node) -> bool:
    """Whether a convolution reads the image's bytes; OpenVINO's converter moves a factor on them into its weights."""
    node = stem.input_value(0).get_node()
    while node.get_type_name() in ("Convert", "Transpose"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Parameter")


def take_all_bytes(stem: openvino.Node) -> None:
    """Set the range of the image's quantizer, if there is one, to 0 to 255 in 256 steps, in place: it then rounds
    nothing.

    OpenVINO recognises that the image is uint8, removes the quantizer, and passes the bytes to the convolution.
    """
    fake = stem.input_value(0).get_node()
    if fake.get_type_name() != "FakeQuantize":
        return
    low, high = opset13.constant(np.float32(0)), opset13.constant(np.float32(255))
    exact = opset13.fake_quantize(fake.input_value(0), low, high, low, high, 256)
    exact.set_friendly_name(fake.get_friendly_name())
    stem.input(0).replace_source_output(exact.output(0))


def slim(path: Path) -> None:
    """Remove from an .xml what no runtime reads, in place: indents, and intermediate shapes, which are inferred.

    Equal constants stay separate: with shared ones OpenVINO's integer transformations give other boxes.
    """
    tree = ElementTree.parse(path)
    for element in tree.iter():
        element.tail = None
        if not (element.text or "").strip():
            element.text = None
        if element.tag == "port":
            for dim in element.findall("dim"):
                element.remove(dim)
    tree.write(path, encoding="utf-8", xml_declaration=True)


_PASSIVE = ("Constant", "Parameter", "Result")
_LEARNED = ("Convolution", "GroupConvolution", "MatMul", "ConvolutionBackpropData")

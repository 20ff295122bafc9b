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
import openvino
from nncf.quantization.advanced_parameters import OverflowFix
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

from quantize.base import Quantizer
from quantize.calibration import CalibrationSet
from quantize.parts import block_of, is_quantized, provenance
from quantize.settings import QuantizeConfig
from runtimes.openvino_backend import CARD_PATH, read_card
from runtimes.seal import write_seal

DRAFT_IMAGES = 16
"""Pictures that a draft is calibrated on."""


class OpenvinoQuantizer(Quantizer):
    """An FP32 OpenVINO artefact and the tensors that it is calibrated on."""

    def __init__(self, model: Path, calibration: CalibrationSet, config: QuantizeConfig) -> None:
        """Choose the pictures.

        Args:
            model: FP32 .xml file of `edge-mrcnn export`.
            calibration: Pictures.
            config: How.

        Raises:
            DataError: If the model finds nothing in any picture.
        """
        super().__init__(read_card(model), calibration, config)
        self._model = model
        self._tensors = list(calibration.tensors_with_objects(model, config.images, config.seed))
        nodes = openvino.Core().read_model(model).get_ordered_ops()
        self._nodes = [(n.get_friendly_name(), n.get_type_name()) for n in nodes if n.get_type_name() not in _PASSIVE]

    @property
    def blocks(self) -> tuple[str, ...]:
        names = (block_of(name) for name, kind in self._nodes if kind in _LEARNED and name != self._stem)
        return tuple(dict.fromkeys(filter(None, names)))

    def write(self, output: Path, keep_float: Collection[str], *, is_draft: bool = False) -> None:
        nncf.set_log_level(logging.ERROR)
        with redirect_stdout(sys.stderr):  # where progress bars belong
            quantized = nncf.quantize(
                openvino.Core().read_model(self._model),
                nncf.Dataset(self._tensors),
                preset=nncf.QuantizationPreset.MIXED,
                target_device=nncf.TargetDevice.CPU,
                subset_size=DRAFT_IMAGES if is_draft else len(self._tensors),
                fast_bias_correction=is_draft,
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM,
                    overflow_fix=OverflowFix.ENABLE if self.config.weight_bits == 7 else OverflowFix.DISABLE,
                ),
                ignored_scope=nncf.IgnoredScope(names=self._float_nodes(keep_float), validate=False),
            )
        said = provenance(self.calibration, self.config, keep_float, weight_bits=self.config.weight_bits)
        quantized.set_rt_info(self.card.updated(precision="int8", calibration=said).to_json(), CARD_PATH)
        openvino.save_model(quantized, output, compress_to_fp16=False)
        slim(output)
        write_seal(output)

    @property
    def _stem(self) -> str:
        stem: str = next(name for name, kind in self._nodes if kind == "Convolution")
        return stem

    def _float_nodes(self, keep_float: Collection[str]) -> list[str]:
        return [name for name, _ in self._nodes if name == self._stem or not is_quantized(name, keep_float)]


def slim(path: Path) -> None:
    """Leave out of an .xml what no runtime reads, in place: indents, and shapes in between, which are inferred.

    Equal constants stay apart: with shared ones OpenVINO's integer transformations give other boxes.
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

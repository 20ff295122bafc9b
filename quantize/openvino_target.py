"""INT8 for OpenVINO by NNCF's post-training quantization.

https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nncf
import openvino
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

from quantize.calibration import CalibrationSet
from quantize.parts import is_quantized, provenance
from quantize.settings import QuantizeConfig
from runtimes.openvino_backend import CARD_PATH, read_card
from runtimes.seal import write_seal


def quantize_openvino(model: Path, output: Path, calibration: CalibrationSet, config: QuantizeConfig) -> None:
    """Quantize the learned layers of an OpenVINO artefact, with full bias correction.

    Args:
        model: FP32 .xml file of `edge-mrcnn export`.
        output: The .xml to write; its .bin lies beside it.
        calibration: Pictures.
        config: How.
    """
    card = read_card(model)
    graph = openvino.Core().read_model(model)
    tensors = list(calibration.tensors_with_objects(model, config.images, config.seed))
    nncf.set_log_level(logging.ERROR)
    quantized = nncf.quantize(
        graph,
        nncf.Dataset(tensors),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(tensors),
        fast_bias_correction=False,
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
        ),
        ignored_scope=nncf.IgnoredScope(names=_float_nodes(graph, config.keep_float), validate=False),
    )
    card = card.updated(precision="int8", calibration=provenance(calibration, config))
    quantized.set_rt_info(card.to_json(), CARD_PATH)
    openvino.save_model(quantized, output, compress_to_fp16=False)
    write_seal(output)


def _float_nodes(graph: Any, keep_float: tuple[str, ...]) -> list[str]:
    nodes = [node for node in graph.get_ordered_ops() if node.get_type_name() not in _PASSIVE]
    stem = next(node.get_friendly_name() for node in nodes if node.get_type_name() == "Convolution")
    names = [node.get_friendly_name() for node in nodes]
    return [name for name in names if name == stem or not is_quantized(name, keep_float)]


_PASSIVE = ("Constant", "Parameter", "Result")

"""FP16 for OpenVINO: the weights of learned layers are stored in half precision.

The precision of the computation is the choice of the device or the runtime (`precision` of `runtimes.load`). OpenVINO's
own compression would convert every constant, including anchors and thresholds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from openvino import opset13

from quantize.parts import part_of

SMALLEST = 256
"""Minimum number of weights of a constant to convert."""


def halve_openvino(model: Path, output: Path) -> None:
    """See `edge_mrcnn.export.half.halve`."""
    graph = openvino.Core().read_model(model)
    for node in graph.get_ordered_ops():
        if part_of(node.get_friendly_name()) is not None:
            _halve_constants(node)
    openvino.save_model(graph, output, compress_to_fp16=False)


def _halve_constants(node: openvino.Node) -> None:
    for place in node.inputs():
        constant = place.get_source_output().get_node()
        if constant.get_type_name() != "Constant" or constant.get_output_element_type(0) != openvino.Type.f32:
            continue
        values = constant.get_data()
        if values.size >= SMALLEST:
            half = opset13.convert(opset13.constant(values.astype(np.float16)), "f32")
            place.replace_source_output(half.output(0))

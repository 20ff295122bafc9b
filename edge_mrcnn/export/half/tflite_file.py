"""FP16 for TFLite: the weights of learned layers are stored in half precision, with computation in float.

GPU and NPU delegates use such weights directly; XNNPACK converts them once, when the file is opened.
"""

from __future__ import annotations

from pathlib import Path

from ai_edge_quantizer import quantizer
from ai_edge_quantizer.qtyping import (
    ComputePrecision,
    OpQuantizationConfig,
    TensorDataType,
    TensorQuantizationConfig,
    TFLOperationName,
)
from ai_edge_quantizer.recipe_manager import AlgorithmName, RecipeManager

from quantize.parts import TENSORS
from runtimes.formats.tflite_format import strip_notes
from runtimes.quiet import quiet_stderr

_WEIGHTS = OpQuantizationConfig(
    weight_tensor_config=TensorQuantizationConfig(num_bits=16, dtype=TensorDataType.FLOAT),
    compute_precision=ComputePrecision.FLOAT,
    explicit_dequantize=True,
)


def halve_tflite(model: Path, output: Path) -> None:
    """See `edge_mrcnn.export.half.halve`."""
    recipe = RecipeManager()
    for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED"):
        recipe.add_quantization_config(TENSORS, TFLOperationName(kind), _WEIGHTS, AlgorithmName.FLOAT_CASTING)
    tool = quantizer.Quantizer(bytearray(strip_notes(model.read_bytes())), recipe.get_quantization_recipe())
    with quiet_stderr():
        half = tool.quantize(enable_progress_report=False).quantized_model
    output.write_bytes(bytes(half))

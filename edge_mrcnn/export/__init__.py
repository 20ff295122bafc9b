"""From a checkpoint to files that run without torch, each verified before it is handed over."""

from __future__ import annotations

TARGETS = {  # name -> (writer, suffix)
    "onnx": ("edge_mrcnn.export.onnx_target:write_onnx", ".onnx"),
    "openvino": ("edge_mrcnn.export.openvino_target:write_openvino", ".xml"),
    "tflite": ("edge_mrcnn.export.tflite_target:write_tflite", ".tflite"),
}
"""Target to the function that writes it and the suffix of its file."""

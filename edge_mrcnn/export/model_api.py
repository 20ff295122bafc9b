"""Metadata and an output for Open Edge Platform's model_api, so that its `MaskRCNN` wrapper can open our files.

It expects the score beside the box, (n, 5), counts classes from 1, and reads its settings from the file. So there is
one more output after the four of the contract, which nothing else uses, and a description. The wrapper rounds boxes to
whole pixels and pastes masks differently; detections, scores and classes are the same.

https://github.com/open-edge-platform/model_api, model_api/models/instance_segmentation.py
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from runtimes.model_card import ModelCard

OUTPUT = "scored_boxes"
"""(n, 5) float32: boxes and scores; the wrapper takes the last two-dimensional output as the boxes."""


def describe(card: ModelCard) -> dict[str, str]:
    """The `model_info` of a card: OpenVINO stores it in rt_info, ONNX in properties named "model_info KEY".

    Images must be RGB. The border has one shade of gray, the mean of the card's colour.
    """
    return {
        "model_type": "MaskRCNN",
        "task_type": "instance_segmentation",
        "labels": " ".join(["background", *(name.replace(" ", "_") for name in card.classes)]),
        "confidence_threshold": str(card.score_threshold),
        "iou_threshold": str(card.iou_threshold),
        "nms_execute": "False",
        "resize_type": "fit_to_window",
        "pad_value": str(round(sum(card.pad_rgb) / 3)),
        "reverse_input_channels": "False",
    }


def add_scored_boxes(model: onnx.ModelProto) -> None:
    """Add the output `OUTPUT` to an ONNX model, in place."""
    graph = model.graph
    boxes, scores = (next(o for o in graph.output if o.name == name) for name in ("boxes", "scores"))
    rows = boxes.type.tensor_type.shape.dim[0]
    graph.initializer.append(helper.make_tensor(f"{OUTPUT}_axis", TensorProto.INT64, [1], [1]))
    graph.node.extend(
        [
            helper.make_node("Unsqueeze", [scores.name, f"{OUTPUT}_axis"], [f"{OUTPUT}_column"], f"deploy/{OUTPUT}_0"),
            helper.make_node("Concat", [boxes.name, f"{OUTPUT}_column"], [OUTPUT], f"deploy/{OUTPUT}_1", axis=1),
        ]
    )
    value = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [rows.dim_param or rows.dim_value, 5])
    graph.output.append(value)

"""All outputs of the loop, in the order in which they receive results."""

from __future__ import annotations

from edge_mrcnn.live.outputs.base import Output
from edge_mrcnn.live.outputs.coco import CocoResults
from edge_mrcnn.live.outputs.json_lines import JsonLines
from edge_mrcnn.live.outputs.mqtt import Mqtt
from edge_mrcnn.live.outputs.page import Page
from edge_mrcnn.live.outputs.recording import Recording
from edge_mrcnn.live.outputs.webhook import Webhook
from edge_mrcnn.live.outputs.window import Window
from edge_mrcnn.live.outputs.yolo_labels import YoloLabels

OUTPUTS: dict[str, type[Output]] = {
    "recording": Recording,
    "window": Window,
    "page": Page,
    "mqtt": Mqtt,
    "webhook": Webhook,
    "json": JsonLines,
    "coco": CocoResults,
    "yolo": YoloLabels,
}
"""Name -> output. The options come from the fields of its settings; field names are unique over all outputs."""

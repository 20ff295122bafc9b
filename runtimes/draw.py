from typing import Any

from runtimes.types import Detections


def draw_detections(image: Any, d: Detections) -> Any: ...

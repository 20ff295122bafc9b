"""edge-mrcnn: a Mask R-CNN that leaves the GPU and runs on a camera.

for frame, detections in edge_mrcnn.stream("model.tflite", source=0):
    ...

The verbs of the command line are functions here: `train`, `prune`, `export`, `quantize`, `report`, `val`; `load` opens
a model. What they need is imported when they are called.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["__version__", "export", "load", "prune", "quantize", "report", "stream", "train", "val"]
__version__ = "0.1.0"

if TYPE_CHECKING:  # a type checker would otherwise accept any name
    from edge_mrcnn.streaming import stream
    from edge_mrcnn.workflow import export, load, prune, quantize, report, train, val
else:
    _PLACES = {
        "stream": "edge_mrcnn.streaming",
        **dict.fromkeys(("load", "quantize", "val"), "edge_mrcnn.workflow"),
    }
    _PACKAGES = ("export", "prune", "report", "train")

    def __getattr__(name: str) -> Any:
        """A function of the command line's verbs, imported when it is first used, so that `edge-mrcnn --help` is
        fast."""
        if name in _PACKAGES:  # which is callable, see `edge_mrcnn.callable_package`
            return import_module(f"edge_mrcnn.{name}")
        if name in _PLACES:
            return getattr(import_module(_PLACES[name]), name)
        raise AttributeError(f"module 'edge_mrcnn' has no attribute {name!r}")

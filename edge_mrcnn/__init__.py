"""edge-mrcnn: a Mask R-CNN that leaves the GPU and runs on a camera.

for frame, detections in edge_mrcnn.stream("model.tflite", source=0):
    ...
"""

from typing import TYPE_CHECKING, Any

__all__ = ["__version__", "stream"]
__version__ = "0.1.0"

if TYPE_CHECKING:  # a type checker that saw the function below would believe every name
    from edge_mrcnn.streaming import stream
else:

    def __getattr__(name: str) -> Any:
        """`stream`, imported when it is first used, so that `edge-mrcnn --help` stays quick."""
        if name == "stream":
            from edge_mrcnn.streaming import stream

            return stream
        raise AttributeError(f"module 'edge_mrcnn' has no attribute {name!r}")

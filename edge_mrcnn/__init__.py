"""edge-mrcnn: a Mask R-CNN that leaves the GPU and runs on a camera."""

__version__ = "0.1.0"

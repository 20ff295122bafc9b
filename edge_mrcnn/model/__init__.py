"""The Mask R-CNN and its checkpoints."""

"""Checkpoints of other projects: what they hold, in our names and our numbers.

`reading` opens a file without running code of it, `unpacking` finds the weights in what others wrap around them, one
module each knows the names of Detectron2 and of MMDetection, and `foreign` says what a file is that cannot be used.
Torchvision's own names are ours, see `edge_mrcnn.model.published`.
"""

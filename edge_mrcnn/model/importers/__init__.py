"""Checkpoints of other projects, converted to our names and layout.

`reading` opens a file without running its code, `unpacking` finds the weights in nested records, one module each has
the names of Detectron2 and of MMDetection, and `foreign` describes files that cannot be used. Torchvision's names are
the same as ours, see `edge_mrcnn.model.published`.
"""

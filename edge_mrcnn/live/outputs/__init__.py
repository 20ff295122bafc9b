"""Outputs of the loop: one module per output, with a common base class and one table.

To add an output, write a module with a subclass of `base.Output` and its settings, and add a line to `table.OUTPUTS`.
Its options then belong to `run` and to `edge_mrcnn.stream`.
"""

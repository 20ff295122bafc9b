"""Lowering of the operators of `edge_mrcnn.export.operators`, for each target."""

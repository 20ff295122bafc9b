"""How each target says the operators of `edge_mrcnn.export.operators`."""

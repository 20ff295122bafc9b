"""Where the results of the loop go: each output in a module of its own, all of one face, chosen from one table.

To add one, write a module beside these with a subclass of `base.Output` and its settings, and add its line to
`table.OUTPUTS`: its options are then those of `run` and of `edge_mrcnn.stream`.
"""

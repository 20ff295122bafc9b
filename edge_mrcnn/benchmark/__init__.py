"""Reliable speed measurements: every model in a process of its own, all interleaved, on the same images.

`candidates` lists what to time, `session` times it through `child` and `worker`, `rows` holds the results, `tables`
shows them.
"""

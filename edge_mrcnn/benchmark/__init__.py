"""Speed that can be trusted: every model in a process of its own, all in turn, on the same pictures.

`candidates` says what to time, `session` times it through `child` and `worker`, `rows` holds the results, `tables`
shows them.
"""

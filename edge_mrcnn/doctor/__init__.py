"""What this machine has, what fits it, and what must be mended before a model runs right on it.

`facts` looks, `wheels` and `rules` know, `diagnosis` concludes, `text` shows. Nothing here imports an SDK: one that
does not start is a finding, so each is tried in a process of its own.
"""

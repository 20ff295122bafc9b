"""Check of this machine: its hardware and packages, compatible releases, and problems to fix.

`facts` collects, `wheels` and `rules` hold the knowledge, `diagnosis` combines them, `text` shows the result. Nothing
here imports an SDK: each is imported in a process of its own, because one that cannot be imported is a finding.
"""

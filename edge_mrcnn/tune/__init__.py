"""Search for the fastest setting on this board within an allowed drop in accuracy.

`search` finds it, `choice` stores it where `run` reads it, `text` shows it.
"""

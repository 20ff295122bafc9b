"""The fastest way to run a model on this board that costs no more accuracy than allowed.

`search` finds it, `choice` stores it where `run` looks, `text` shows it.
"""

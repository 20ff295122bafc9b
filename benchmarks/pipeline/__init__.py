"""Contenders of `benchmarks/pipeline.py`: programs from a camera's bytes to results, each in a process of its own.

Nothing of the product imports this.
"""

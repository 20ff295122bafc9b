"""Search for the weights in the records of training scripts.

Lightning, DataParallel, moving averages and custom loops save a dictionary with the weights under some key, and add a
prefix such as "model." to each name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

AVERAGES = ("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "model_ema_state_dict")
"""Keys of moving averages of the weights, which are preferred to the last weights."""
KEYS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "weights",
    "params",
    "module",
    "checkpoint",
)
"""Keys of the weights themselves."""
PREFIXES = ("", "module.", "model.", "_orig_mod.", "module.model.", "model.module.")
"""What loops and compilers put before all names."""
AVERAGE_PREFIXES = ("ema.", "ema_model.", "model_ema.", "averaged_model.")
"""Prefixes of averaged weights in the same dictionary as the others."""

State = dict[str, Any]


def candidates(record: Any, depth: int = 2) -> Iterator[tuple[str, State]]:
    """Dictionaries that may be weights, the most likely first, each with its path of keys.

    Args:
        record: Content of a file.
        depth: Maximum nesting depth.
    """
    if not isinstance(record, Mapping):
        return
    for key in (*AVERAGES, *KEYS):
        inner = record.get(key)
        if depth and isinstance(inner, Mapping):
            for path, state in candidates(inner, depth - 1):
                yield ".".join(filter(None, (key, path))), state
    yield "", dict(record)


def find_by_mark(record: Any, marks: tuple[str, ...]) -> tuple[State, str] | None:
    """The weights that contain all marks after one prefix, without that prefix.

    Args:
        record: What a file holds.
        marks: Names of weights that identify a model.

    Returns:
        The weights and their place, such as "state_dict, names after model."; None if there are none.
    """
    for path, state in candidates(record):
        for prefix in _prefixes(state, marks[0]):
            if all(isinstance(state.get(prefix + mark), Tensor) for mark in marks):
                found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
                where = [path] if path else []
                where += [f"names after {prefix!r}"] if prefix else []
                return found, ", ".join(where)
    return None


def _prefixes(state: State, mark: str) -> list[str]:
    """Prefixes before a mark in the names of weights, those of averages first."""
    found = [key.removesuffix(mark) for key in state if isinstance(key, str) and key.endswith(mark)]
    whole = [prefix for prefix in found if not prefix or prefix.endswith(".")]
    return sorted(whole, key=lambda prefix: (not prefix.startswith(AVERAGE_PREFIXES), len(prefix)))

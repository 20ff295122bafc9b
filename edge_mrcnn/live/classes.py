"""Class names in options, checked against those of the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from runtimes.draw import Array
from runtimes.errors import UsageError
from runtimes.names import find_labels


def find_classes(flag: str, texts: Iterable[str], names: Sequence[str]) -> frozenset[int]:
    """The labels that an option selects.

    Args:
        flag: Name of the option, for the error message.
        texts: Class names, or several names or labels separated by commas.
        names: Class names of the model.

    Raises:
        UsageError: If the model has no such class.
    """
    labels: set[int] = set()
    for text in texts:
        for part in split_names(text, names):
            is_label = part.isdecimal() and part not in names
            try:
                labels.update(find_labels(names, int(part) if is_label else part))
            except UsageError as error:
                raise UsageError(f"{flag}: {error}") from None
    return frozenset(labels)


def split_names(text: str, names: Sequence[str]) -> list[str]:
    """One name, which may contain commas itself, or several names separated by commas."""
    if text in names:
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def choose_labels(classes: Iterable[str], exclude: Iterable[str], names: Sequence[str]) -> Array:
    """Which classes are kept.

    Args:
        classes: Value of --classes; empty for all classes.
        exclude: Value of --exclude, which takes precedence.
        names: Class names of the model.

    Returns:
        (len(names),) bool.

    Raises:
        UsageError: If the model has no such class, or none is left.
    """
    wanted = find_classes("--classes", classes, names)
    unwanted = find_classes("--exclude", exclude, names)
    numbers = np.arange(len(names))
    keeps: Array = ~np.isin(numbers, list(unwanted))
    if wanted:
        keeps &= np.isin(numbers, list(wanted))
    if not keeps.any():
        raise UsageError("--classes, --exclude: no class is left")
    return keeps

"""Selection of classes by name or number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import UsageError

Array = NDArray[Any]
ClassName = str | int
"""A class by its name, or by its 0-based label."""


def choose_classes(
    names: Sequence[str],
    classes: ClassName | Sequence[ClassName] | None = None,
    exclude: ClassName | Sequence[ClassName] | None = None,
) -> Array:
    """Which classes are kept.

    Args:
        names: Names of all classes of a model.
        classes: Names or labels of the kept classes; all if None.
        exclude: Names or labels of classes to remove; takes precedence over `classes`.

    Returns:
        (len(names),) bool.

    Raises:
        UsageError: If a class is not one of the model's.
    """
    stays = np.full(len(names), classes is None)
    stays[find_labels(names, classes)] = True
    stays[find_labels(names, exclude)] = False
    return stays


def find_labels(names: Sequence[str], wanted: ClassName | Sequence[ClassName] | None) -> list[int]:
    """The labels of classes; a name shared by several classes gives all of them.

    Raises:
        UsageError: If a class is not one of `names`.
    """
    if wanted is None:
        return []
    several = [wanted] if isinstance(wanted, (str, int, np.integer)) else wanted
    return [label for one in several for label in _find_label(names, one)]


def _find_label(names: Sequence[str], wanted: ClassName) -> list[int]:
    if isinstance(wanted, str):
        labels = [label for label, name in enumerate(names) if name == wanted]
    else:
        labels = [int(wanted)] if 0 <= wanted < len(names) else []
    if not labels:
        raise UsageError(f"class {wanted!r}: {_suggest(names, wanted)}")
    return labels


def _suggest(names: Sequence[str], wanted: ClassName) -> str:
    """The available names, and the most similar one."""
    import difflib  # imported here, because only errors need it

    near = difflib.get_close_matches(str(wanted), names, n=1)
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"the model has {shown}" + (f"; did you mean {near[0]}?" if near else "")

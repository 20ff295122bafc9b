"""Packages that can also be called: `edge_mrcnn.train(...)` trains, and `edge_mrcnn.train.loop` is still its module.

A package and a function with the same name would replace each other in `edge_mrcnn`, depending on the order of imports.
"""

from __future__ import annotations

import sys
from pkgutil import resolve_name
from types import ModuleType
from typing import Any


class Verb(ModuleType):
    """A package that, when called, runs its function in `edge_mrcnn.workflow`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._function(*args, **options)

    @property
    def __signature__(self) -> Any:
        import inspect

        return inspect.signature(self._function)

    @property
    def _function(self) -> Any:
        return resolve_name(f"edge_mrcnn.workflow:{self.__name__.rpartition('.')[2]}")


def make_callable(name: str) -> None:
    """Make a package callable, while it is being imported."""
    sys.modules[name].__class__ = Verb

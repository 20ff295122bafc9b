"""Packages that are verbs too: `edge_mrcnn.train(...)` trains, and `edge_mrcnn.train.loop` is still its module.

A package and a function of one name would take each other's place in `edge_mrcnn`, whichever was imported last.
"""

from __future__ import annotations

import sys
from pkgutil import resolve_name
from types import ModuleType
from typing import Any


class Verb(ModuleType):
    """A package that does its function in `edge_mrcnn.workflow` when it is called."""

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
    """Let a package, which is being imported, be called."""
    sys.modules[name].__class__ = Verb

"""How long work tells how far it is: one type for whoever shows it, in a terminal or elsewhere."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, the number of steps done and the number of all."""
Say = Callable[[str], None]
"""Called with one line of text at a time."""


def silent(what: str, done: int, total: int) -> None:
    """Show nothing: what is called where nobody asked for progress."""


def silent_lines(line: str) -> None:
    """Say nothing."""


def named(progress: Progress, what: str) -> Progress:
    """The same progress under another name, for a part that does not know what it is done for."""

    def tell(_: str, done: int, total: int) -> None:
        progress(what, done, total)

    return tell

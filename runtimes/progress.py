"""Types of callbacks for progress of long work, shown in a terminal or elsewhere."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with a description, the number of finished steps and the total number."""
Say = Callable[[str], None]
"""Called with one line of text at a time."""


def silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


def silent_lines(line: str) -> None:
    """Print nothing."""


def named(progress: Progress, what: str) -> Progress:
    """The same progress under another description."""

    def tell(_: str, done: int, total: int) -> None:
        progress(what, done, total)

    return tell

"""A text file that is made with the first thing that is written to it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from runtimes.output_paths import claim_file, expect_writable


class TextFile:
    """Written line by line; what is there already stays, and the new file gets a number."""

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Make one; nothing is touched yet.

        Raises:
            UnavailableError: If it could not be written there.
        """
        expect_writable(path)
        self._path = path
        self._overwrite = overwrite
        self._file: TextIO | None = None
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether it was begun and is not finished."""
        return self._file is not None and not self._is_closed

    def open(self) -> TextIO:
        """Begin it, unless it is open already.

        Raises:
            UnavailableError: If it cannot be written there.
        """
        if self._is_closed:
            raise ValueError(f"{self._path}: is closed")
        if self._file is None:
            self._path = claim_file(self._path, overwrite=self._overwrite)
            self._file = self._path.open("w", encoding="utf-8", buffering=1)
        return self._file

    def write(self, text: str) -> None:
        """Write a text; each line is on the disk at once."""
        self.open().write(text)

    def written(self) -> Iterable[str]:
        """Its path, which may have got a number; nothing where nothing was written."""
        return [str(self._path)] if self._file is not None else []

    def close(self) -> None:
        """Finish it; a second call does nothing."""
        self._is_closed = True
        if self._file is not None:
            self._file.close()

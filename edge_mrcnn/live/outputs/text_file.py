"""A text file that is made with the first thing that is written to it; standard output by the name of "-"."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from runtimes.errors import UsageError
from runtimes.output_paths import claim_file, expect_writable

STANDARD_OUTPUT = Path("-")


class TextFile:
    """Written line by line; what is there already stays, and the new file gets a number.

    A reader of standard output that has had enough is no fault: `is_unwanted` says so, and nothing more is written.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Make one; nothing is touched yet.

        Raises:
            UnavailableError: If it could not be written there.
        """
        self._is_standard = path == STANDARD_OUTPUT
        if not self._is_standard:
            expect_writable(path)
        self.is_unwanted = False
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
        if self._is_standard:
            self._file = sys.stdout
        if self._file is None:
            self._path = claim_file(self._path, overwrite=self._overwrite)
            self._file = self._path.open("w", encoding="utf-8", buffering=1)
        return self._file

    def write(self, text: str) -> None:
        """Write a text; each line is on the disk, or with its reader, at once."""
        if not self._is_standard:
            self.open().write(text)
        elif not self.is_unwanted:
            self._write_out(text)

    def _write_out(self, text: str) -> None:
        try:
            self.open().write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            self.is_unwanted = True
            # What Python still wants to write at exit must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def written(self) -> Iterable[str]:
        """Its path, which may have got a number; nothing where nothing was written."""
        return [str(self._path)] if self._file is not None and not self._is_standard else []

    def close(self) -> None:
        """Finish it; a second call does nothing."""
        self._is_closed = True
        if self._file is not None and not self._is_standard:
            self._file.close()


def writes_to_standard_output(settings: Mapping[str, object]) -> bool:
    """Whether an output writes there, so that nothing else may.

    Args:
        settings: Flag -> path of each output that writes text.

    Raises:
        UsageError: If several do.
    """
    flags = [flag for flag, path in settings.items() if path == STANDARD_OUTPUT]
    if len(flags) > 1:
        raise UsageError(f"{', '.join(flags)}: only one of them can go to standard output")
    return bool(flags)

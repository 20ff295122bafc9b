"""A text file that is created with its first text; "-" is standard output."""

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
    """Written line by line. An existing file stays, and the new one gets a number.

    If the reader of standard output closes it, `is_unwanted` becomes true and nothing more is written; this is not an
    error.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Prepare it; no file is touched yet.

        Raises:
            UnavailableError: If the file cannot be written.
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
        """Whether the file is open."""
        return self._file is not None and not self._is_closed

    def open(self) -> TextIO:
        """Open the file, if it is not open yet.

        Raises:
            UnavailableError: If the file cannot be written.
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
        """Write a text, and flush it at once."""
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
            # Python must not fail again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def written(self) -> Iterable[str]:
        """The path, which may have got a number; None if nothing was written."""
        return [str(self._path)] if self._file is not None and not self._is_standard else []

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._is_closed = True
        if self._file is not None and not self._is_standard:
            self._file.close()


def writes_to_standard_output(settings: Mapping[str, object]) -> bool:
    """Whether an output writes to standard output, so that nothing else may.

    Args:
        settings: Option -> path of each output that writes text.

    Raises:
        UsageError: If several outputs do.
    """
    flags = [flag for flag, path in settings.items() if path == STANDARD_OUTPUT]
    if len(flags) > 1:
        raise UsageError(f"{', '.join(flags)}: only one of them can write to standard output")
    return bool(flags)

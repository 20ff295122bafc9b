"""All errors of the three packages.

    EdgeError
    ├── UsageError (ValueError)            an option or argument that cannot work
    ├── MissingFileError (FileNotFoundError)
    ├── MissingExtraError (ImportError)    the package that does this job is not installed
    ├── UnknownFormatError (ValueError)    a file suffix that no runtime opens
    ├── ModelFileError (ValueError)        a model file that is damaged or not ours
    ├── ImageError (ValueError)            an image that cannot be decoded or has a wrong shape
    ├── SourceError (OSError)              a camera, stream or video that cannot be opened or read; see its `code`
    ├── UnavailableError (OSError)          a disk, file or port that is unavailable at present
    ├── InferenceError (RuntimeError)      the model hangs, or fails again and again
    ├── DataError (ValueError)             annotations or calibration data that cannot be used
    └── GateError (RuntimeError)           a parity or accuracy gate failed (exit code 3)

A message says what was expected, what came and what to do, in one line.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Base of every error that a user can fix; the command line prints it as one line."""

    exit_code = 1


class UsageError(EdgeError, ValueError):
    """An option or argument that is not valid."""

    exit_code = 2


class MissingFileError(EdgeError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class MissingExtraError(EdgeError, ImportError):
    """The package that does this job is not installed."""


class UnknownFormatError(EdgeError, ValueError):
    """A file suffix that no runtime opens."""


class ModelFileError(EdgeError, ValueError):
    """A model file or checkpoint that is damaged or was not made by edge-mrcnn."""


class ImageError(EdgeError, ValueError):
    """An image that cannot be decoded or has a wrong shape or type."""


class SourceError(EdgeError, OSError):
    """A camera, stream or video that cannot be opened or read."""

    def __init__(self, message: str, *, code: str = "unreadable") -> None:
        """Make one.

        Args:
            message: Description of the error.
            code: Kind of error, for programs; see `runtimes.sources.CODES`.
        """
        super().__init__(message)
        self.code = code


class UnavailableError(EdgeError, OSError):
    """A disk, file or port that is not available now: the option is valid, and a later attempt may succeed."""


class InferenceError(EdgeError, RuntimeError):
    """The model hangs, or fails again and again."""


class DataError(EdgeError, ValueError):
    """Annotations or calibration data that cannot be used."""


class GateError(EdgeError, RuntimeError):
    """A parity or accuracy check failed; the result is kept under a name that says so."""

    exit_code = 3


def one_line(error: BaseException, limit: int = 160) -> str:
    """The message of an SDK's error on one line, with limited length, for use in our messages."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:  # strerror leaves out the error number
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return text if len(text) <= limit else text[: limit - 3] + "..."


def expect_text(name: str) -> None:
    """Refuse a file name that is not valid text: libraries crash on its bytes, and no message can show them.

    Raises:
        UsageError: If it contains bytes that are not UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="backslashreplace").decode()
        raise UsageError(f"{shown}: this name is not valid UTF-8; rename the file or folder") from None

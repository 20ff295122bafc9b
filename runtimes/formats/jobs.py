"""Jobs that depend on the format: one table per job, from the format's name to "module:function"."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any

from runtimes.errors import MissingExtraError, UnknownFormatError
from runtimes.formats import FORMATS


def find_job(table: Mapping[str, str], format_name: str, job: str, *, name: object, install: str = "") -> Any:
    """The implementation of a job for a format; its packages are imported only now.

    Args:
        table: Name of a format to the dotted name of a function or class.
        format_name: Key of `runtimes.FORMATS`.
        job: Name of the job, for messages: "quantizing".
        name: Name of the file in messages.
        install: Argument of `pip install` for the packages; the missing package itself if empty.

    Raises:
        UnknownFormatError: If the format does not support this job.
        MissingExtraError: If a package is not installed.
    """
    if format_name not in table:
        kinds = ", ".join(FORMATS[key].suffix for key in table)
        raise UnknownFormatError(f"{name}: {job} supports {kinds}; export the model to one of them")
    try:
        return pkgutil.resolve_name(table[format_name])
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{name}: {job} needs {error.name}: pip install {install or error.name}") from error

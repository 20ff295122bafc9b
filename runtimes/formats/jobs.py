"""Jobs that each format does in its own way: one table for each job, from the format's name to "module:function"."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any

from runtimes.errors import MissingExtraError, UnknownFormatError
from runtimes.formats import FORMATS


def find_job(table: Mapping[str, str], format_name: str, job: str, *, name: object, install: str = "") -> Any:
    """What does a job for a format; only now are its packages imported.

    Args:
        table: Name of a format to the dotted name of a function or class.
        format_name: Key of `runtimes.FORMATS`.
        job: What is done, for messages: "quantizing".
        name: What messages call the file.
        install: What `pip install` takes to bring the packages; the missing package itself if empty.

    Raises:
        UnknownFormatError: If nothing does this job for the format.
        MissingExtraError: If a package is not installed.
    """
    if format_name not in table:
        kinds = ", ".join(FORMATS[key].suffix for key in table)
        raise UnknownFormatError(f"{name}: {job} is there for {kinds}; export the model in one of them")
    try:
        return pkgutil.resolve_name(table[format_name])
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{name}: {job} needs {error.name}: pip install {install or error.name}") from error

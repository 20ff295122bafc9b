"""From a path to a runtime: `load`, and the checks of its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtimes.base import Runtime, warm_up
from runtimes.errors import UsageError
from runtimes.formats import FORMATS, Format, Options
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile
from runtimes.quiet import quiet_stderr

COMMON = ("threads", "device", "options")
"""Arguments of `load` for every format."""


def load(
    path: str | Path | ModelFile,
    *,
    threads: int | None = None,
    device: str | None = None,
    options: Options | None = None,
    **single: Any,
) -> Runtime:
    """Open a model file in its own runtime and run it once.

    Args:
        path: A model file exported by edge-mrcnn, a bundle, a folder with one model, or "people", the bundled model, in
            the format of the fastest installed runtime.
        threads: Number of CPU threads; if None, one per core that this process may use.
        device: "cpu"; for ONNX "cuda" or "tensorrt"; for OpenVINO "gpu", "npu", "auto" and combinations of them.
        options: Options of one format: `OnnxOptions`, `OpenVinoOptions` or `TfliteOptions`.
        **single: Fields of those options one by one, such as `precision="auto"`.

    Raises:
        MissingFileError: If there is no such file.
        UnknownFormatError: If no runtime opens files of this suffix.
        UsageError: If an argument is unknown or has an invalid value.
        MissingExtraError: If the SDK is not installed.
        ModelFileError: If the file is damaged or was not made by edge-mrcnn.
    """
    file = ModelFile(path)
    check_keywords(file.format, single, name=file)
    check_threads(threads)
    place = file.format.check_device(device)
    chosen = file.format.make_options(options, single)
    backend = file.import_backend()
    runtime: Runtime = backend.open_model(file, threads=threads, device=place, options=chosen)
    with quiet_stderr():  # suppresses messages of an SDK at the first run
        warm_up(file, runtime)
    return runtime


def read_card(path: str | Path | ModelFile) -> ModelCard:
    """The card of a model file, without importing its SDK; raises as `load` does."""
    return ModelFile(path).card


def check_threads(threads: int | None) -> None:
    """Raise UsageError unless this is a valid number of threads, or None."""
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise UsageError(f"threads {threads!r}: expected a whole number of at least 1, or None for one per core")


def check_keywords(format_: Format, single: dict[str, Any], *, name: object) -> None:
    """Raise UsageError for keywords that are not options of a format, and list the valid ones.

    Args:
        format_: Format of the file.
        single: Keywords besides `COMMON`, with their values.
        name: Name of the file in messages.
    """
    own = format_.options.names()
    for keyword in single:
        if keyword in own:
            continue
        takes = f"{name} takes {', '.join((*COMMON[:2], *own))}"
        if owner := _owner_of(keyword):
            raise UsageError(f"{keyword}: is an option of {owner.title} ({owner.options.__name__}); {takes}")
        import difflib  # imported here, because only errors need it

        near = difflib.get_close_matches(keyword, (*COMMON, *own), n=1)
        raise UsageError(f"{keyword}: no such option{f', did you mean {near[0]}' if near else ''}; {takes}")


def _owner_of(keyword: str) -> Format | None:
    """The format whose options have a field of this name."""
    return next((format_ for format_ in FORMATS.values() if keyword in format_.options.names()), None)

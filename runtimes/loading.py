"""From a path to a runtime: the one place that says what `load` takes and refuses."""

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
"""What `load` takes for every format."""


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
        path: A model file that edge-mrcnn exported, a bundle with one, a folder with no other, or "people", the model
            that comes along, in the file of the fastest runtime that is installed.
        threads: CPU threads; one for each core that this process may use if None.
        device: "cpu"; for ONNX "cuda" or "tensorrt"; for OpenVINO "gpu", "npu", "auto" and what OpenVINO makes of them.
        options: What one format alone takes: `OnnxOptions`, `OpenVinoOptions` or `TfliteOptions`.
        **single: Fields of those options one by one, such as `precision="auto"`.

    Raises:
        MissingFileError: If there is no such file.
        UnknownFormatError: If no runtime opens files of this suffix.
        UsageError: If an argument is not known or cannot have this value.
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
    with quiet_stderr():  # an SDK's remarks at the first run
        warm_up(file, runtime)
    return runtime


def read_card(path: str | Path | ModelFile) -> ModelCard:
    """The card of a model file, without its SDK and without making it ready to run; raises as `load` does."""
    return ModelFile(path).card


def check_threads(threads: int | None) -> None:
    """Raise UsageError unless this is a number of threads, or None."""
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise UsageError(f"threads {threads!r}: expected a whole number of at least 1, or None for one per core")


def check_keywords(format_: Format, single: dict[str, Any], *, name: object) -> None:
    """Raise UsageError for keywords that are no options of a format, and name the right ones.

    Args:
        format_: Of the file.
        single: Keywords beside `COMMON`, with their values.
        name: What messages call the file.
    """
    own = format_.options.names()
    for keyword in single:
        if keyword in own:
            continue
        takes = f"{name} takes {', '.join((*COMMON[:2], *own))}"
        if owner := _owner_of(keyword):
            raise UsageError(f"{keyword}: is an option of {owner.title} ({owner.options.__name__}); {takes}")
        import difflib  # only a mistake needs it

        near = difflib.get_close_matches(keyword, (*COMMON, *own), n=1)
        raise UsageError(f"{keyword}: no such option{f', did you mean {near[0]}' if near else ''}; {takes}")


def _owner_of(keyword: str) -> Format | None:
    """The format whose options have a field of this name."""
    return next((format_ for format_ in FORMATS.values() if keyword in format_.options.names()), None)

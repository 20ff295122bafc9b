"""The formats of model files: one module each, which imports no SDK, and one line in `FORMATS`.

Everything that depends on the format of a file is a line in a table of that job, keyed by the format's name: export
(`edge_mrcnn.export.TARGETS`), quantization (`quantize.TARGETS`), reading of operators (`edge_mrcnn.inspection.READERS`)
and so on. Only the format's backend imports the SDK, when a file is opened.
"""

from __future__ import annotations

from pathlib import Path

from runtimes.errors import UnknownFormatError
from runtimes.formats.base import Format, Notes, Options, SealFrame
from runtimes.formats.onnx_format import ONNX, OnnxOptions
from runtimes.formats.openvino_format import OPENVINO, OpenVinoOptions
from runtimes.formats.tflite_format import TFLITE, TfliteOptions

FORMATS: dict[str, Format] = {
    "onnx": ONNX,
    "openvino": OPENVINO,
    "tflite": TFLITE,
}
"""Name of a format -> its description."""


def suffixes() -> tuple[str, ...]:
    """The suffix of each format, in the order of `FORMATS`."""
    return tuple(format_.suffix for format_ in FORMATS.values())


def format_of(path: str | Path, *, name: object = None) -> Format:
    """The format of a file by its suffix; the file need not exist.

    Args:
        path: The file.
        name: Name of the file in messages; its path if None.

    Raises:
        UnknownFormatError: If no format has this suffix.
    """
    path = Path(path)
    name = path if name is None else name
    for format_ in FORMATS.values():
        if path.suffix == format_.suffix:
            return format_
        if path.suffix in format_.companions:
            named = path.with_suffix(format_.suffix).name
            raise UnknownFormatError(
                f"{name}: this file holds only the weights of an {format_.title} model; give {named}"
            )
    kinds = ", ".join(suffixes())
    raise UnknownFormatError(f"{name}: expected a model file of kind {kinds}, or a bundle of one; got {path.suffix!r}")


def companions_of(path: Path) -> list[Path]:
    """Paths of a model's companion files; none if the path is not a model file."""
    found = [format_ for format_ in FORMATS.values() if path.suffix == format_.suffix]
    return [path.with_suffix(suffix) for format_ in found for suffix in format_.companions]


def files_of(path: Path) -> tuple[Path, ...]:
    """A file and its existing companions."""
    return (path, *(file for file in companions_of(path) if file.is_file()))


__all__ = [
    "FORMATS",
    "Format",
    "SealFrame",
    "Notes",
    "OnnxOptions",
    "OpenVinoOptions",
    "Options",
    "TfliteOptions",
    "companions_of",
    "files_of",
    "format_of",
    "suffixes",
]

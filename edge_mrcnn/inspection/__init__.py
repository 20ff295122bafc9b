"""What is inside an artefact: its operators, where they come from, and which of them are integer."""

from __future__ import annotations

import pkgutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from edge_mrcnn.inspection.operator import ROOT, Operator
from runtimes.bundle import model_file
from runtimes.errors import MissingExtraError, MissingFileError, UnknownFormatError

READERS = {  # suffix -> (reader, package that it needs)
    ".onnx": ("edge_mrcnn.inspection.onnx_file:read_operators", "onnx"),
    ".xml": ("edge_mrcnn.inspection.openvino_file:read_operators", "openvino"),
    ".tflite": ("edge_mrcnn.inspection.tflite_file:read_operators", "ai-edge-litert"),
}


def list_operators(path: str | Path) -> list[Operator]:
    """The operators of a model file, in its own order.

    Raises:
        MissingFileError: If the file is not there.
        UnknownFormatError: If its suffix is not in `READERS`.
        MissingExtraError: If the package that reads this format is not installed.
        ModelFileError: If the file is damaged.
    """
    path = model_file(path)
    if path.suffix not in READERS:
        raise UnknownFormatError(f"{path}: expected one of {', '.join(READERS)}")
    if not path.is_file():
        raise MissingFileError(f"{path}: no such model file")
    reader, package = READERS[path.suffix]
    try:
        read = pkgutil.resolve_name(reader)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{path}: needs {error.name}: pip install {package}") from error
    operators: list[Operator] = read(path)
    return name_strays(operators)


def name_strays(operators: list[Operator]) -> list[Operator]:
    """Operators that a converter added or renamed get the name of what feeds them, and so belong to its part."""
    named = list(operators)
    for index, operator in enumerate(operators):
        if operator.is_stray:
            source = next((named[i] for i in operator.sources if i < index), None)
            named[index] = replace(operator, name=f"{source.module if source else ROOT}/{operator.name}")
    return named


def count_kinds(operators: list[Operator]) -> Counter[str]:
    """How often each kind of operator occurs."""
    return Counter(operator.kind for operator in operators)


__all__ = ["READERS", "Operator", "count_kinds", "list_operators"]

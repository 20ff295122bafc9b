"""Content of a model file: its operators, their origin, and which of them run in INT8."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from edge_mrcnn.inspection.operator import ROOT, Operator
from runtimes.formats.jobs import find_job
from runtimes.model_file import ModelFile

READERS = {
    "onnx": "edge_mrcnn.inspection.onnx_file:read_operators",
    "openvino": "edge_mrcnn.inspection.openvino_file:read_operators",
    "tflite": "edge_mrcnn.inspection.tflite_file:read_operators",
}
"""Format -> function that reads the operators of such a file, from its path."""


def list_operators(path: str | Path | ModelFile) -> list[Operator]:
    """The operators of a model file, in its own order.

    Raises:
        MissingFileError: If the file does not exist.
        UnknownFormatError: If its format is not in `READERS`.
        MissingExtraError: If the package that reads this format is not installed.
        ModelFileError: If the file is damaged.
    """
    file = ModelFile(path)
    read = find_job(READERS, file.format.name, "reading operators", name=file)
    operators: list[Operator] = read(file.path)
    return name_strays(operators)


def name_strays(operators: list[Operator]) -> list[Operator]:
    """Give operators that a converter added or renamed the name of their input's operator, so that they belong to its
    part."""
    named = list(operators)
    for index, operator in enumerate(operators):
        if operator.is_stray:
            source = next((named[i] for i in operator.sources if i < index), None)
            named[index] = replace(operator, name=f"{source.module if source else ROOT}/{operator.name}")
    return named


def count_kinds(operators: list[Operator]) -> Counter[str]:
    """Number of operators of each kind."""
    return Counter(operator.kind for operator in operators)


__all__ = ["READERS", "Operator", "count_kinds", "list_operators"]

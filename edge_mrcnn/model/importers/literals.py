"""Reading of configurations in Python, as in MMDetection, without running them.

Assignments of plain values, lists, tuples, dictionaries, `dict(...)` and earlier names are supported. All others, such
as calls of other functions, are left out.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtimes.errors import MissingFileError, ModelFileError, one_line

BASE = "_base_"
"""Name of the list of base files."""
DELETE = "_delete_"
"""Key of a dictionary that replaces that of the base file instead of changing it."""


class _NotPlainError(ValueError):
    """A value that only running the code could give."""


def read_literals(path: Path) -> dict[str, Any]:
    """The plain assignments of a file and its base files.

    Raises:
        MissingFileError: If one of them does not exist.
        ModelFileError: If one is not valid Python.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such configuration") from error
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: expected a configuration in Python, this is not a text file") from error
    values = parse_literals(text, str(path))
    bases = values.pop(BASE, ())
    result: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        result = merged(result, read_literals(path.parent / base))
    return merged(result, values)


def parse_literals(text: str, name: str = "the configuration in the checkpoint") -> dict[str, Any]:
    """The plain assignments of a program: name -> value.

    Raises:
        ModelFileError: If it is not valid Python.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise ModelFileError(f"{name}: expected a configuration in Python ({one_line(error)})") from error
    values: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                values[statement.targets[0].id] = _evaluate(statement.value, values)
            except _NotPlainError:
                continue
    return values


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A nested dictionary with some values replaced, as in MMDetection."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(inner, Mapping) and isinstance(value, Mapping) and not value.get(DELETE):
            result[key] = merged(inner, value)
        else:
            result[key] = value
    return result


def _evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression; raises _NotPlainError if it is not plain."""
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        items = [_evaluate(item, names) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        return _dictionary(zip(node.keys, node.values, strict=True), names)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        keys = [keyword.arg and ast.Constant(keyword.arg) for keyword in node.keywords]
        return _dictionary(zip(keys, (keyword.value for keyword in node.keywords), strict=True), names)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise _NotPlainError from error


def _dictionary(items: Any, names: Mapping[str, Any]) -> dict[str, Any]:
    """Pairs of expressions; a key of None unpacks a dictionary. Items that are not plain are left out."""
    result: dict[str, Any] = {}
    for key, value in items:
        try:
            plain = _evaluate(value, names)
            if key is None:
                result.update(plain)
            else:
                result[_evaluate(key, names)] = plain
        except (_NotPlainError, TypeError, ValueError):
            continue
    return result

"""Every name has one meaning in the three packages."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("runtimes", "quantize", "edge_mrcnn")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Path below the root, and syntax tree, of every module."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text(encoding="utf-8"))


def test_no_two_classes_share_a_name():
    places = defaultdict(list)
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path}:{node.lineno}")
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared == {}


def test_progress_has_one_type():
    """All progress is reported by `runtimes.progress.Progress`."""
    spellings = {"Callable[[str, int, int], None]", "Callable[[int, int], None]"}
    found = set()
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and ast.unparse(node) in spellings:
                found.add(path)
    assert found == {"runtimes/progress.py"}


def test_each_constant_is_defined_once():
    """Two modules with the same constant can diverge when one of them changes."""
    places = defaultdict(list)
    for path, tree in modules():
        for name, value in constants(tree):
            places[name, value].append(path)
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert shared == {}


def constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Name and value of each module-level constant, which is in capitals."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            name = node.target.id
        else:
            continue
        if name.isupper() and not ast.unparse(node.value).startswith(("TypeVar(", "ParamSpec(")):
            yield name, _plain_value(node.value)


def _plain_value(node: ast.expr) -> str:
    """Its source; the members of a collection in order, for any type of collection."""
    if isinstance(node, ast.Call) and len(node.args) == 1 and ast.unparse(node.func) in ("frozenset", "tuple"):
        node = node.args[0]
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return str(sorted(ast.unparse(member) for member in node.elts))
    return ast.unparse(node)


def test_the_product_needs_no_test_tools():
    found = []
    for path, tree in modules():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found += [f"{path}: {name}" for name in names if name.split(".")[0] in ("unittest", "pytest")]
    assert found == []


def test_benchmarks_import_names_that_exist():
    """Long benchmarks are not run here, so a renamed attribute would go unnoticed."""
    missing = []
    for file in sorted((ROOT / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                known = _names_of(node.module)
                missing += [f"{file.name}: {node.module}.{a.name}" for a in node.names if a.name not in known]
    assert missing == []


def _names_of(module: str) -> set[str]:
    """The names that a module defines or imports, and the modules among them."""
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names = {part.stem for part in path.iterdir()} if path.is_dir() else set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names

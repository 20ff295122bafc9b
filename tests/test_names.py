"""One name, one meaning, over the three packages."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("runtimes", "quantize", "edge_mrcnn")
PENDING = {"Frame", "Output", "Picture", "Scene"}


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
    shared = {name: found for name, found in places.items() if len(found) > 1 and name not in PENDING}
    assert shared == {}


def test_progress_has_one_type():
    """Everything that takes steps is told by `runtimes.progress.Progress`."""
    spellings = {"Callable[[str, int, int], None]", "Callable[[int, int], None]"}
    found = set()
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Subscript) and ast.unparse(node) in spellings:
                found.add(path)
    assert found == {"runtimes/progress.py"}

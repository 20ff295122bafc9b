"""Texts use the field's terms, and none of the words that this project once invented for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "edge_mrcnn",
    "runtimes",
    "quantize",
    "calib_data",
    "benchmarks",
    "configs",
    "containers",
    "docs",
    "models",
    ".ci",
)
FILES = ("README.md", "CONTRIBUTING.md", "Makefile", "llms.txt", "mkdocs.yml", "docs/llms.txt")
SUFFIXES = {".py", ".md", ".toml", ".html", ".js", ".sh", ".yml", ".txt", ""}
TERMS = {
    "poor place": "localisation error",
    "found twice": "duplicate",
    "detections of nothing": "false positives",
    "mask iou of the rest": "mask IoU of the matched detections",
    "longest gradient": "gradient clipping norm",
    "longer gradients": "gradient clipping norm",
    "surer": "higher score",
    "settle": "warm-up",
    "settled": "warm-up",
    "manners": "Lightning's setup",
    "twin": "reference, copy",
    "happenings?": "event",
    "yet again": "again",
    "who asks": "client",
    "riddles?": "unclear",
    "come(s)? along": "bundled",
    "without a word": "silently, without a message",
    "found again": "re-identified",
}
"""Pattern -> what to write instead."""


def texts() -> Iterator[tuple[str, str]]:
    """Path below the root, and text, of everything that a user or a reader of the code sees."""
    paths = [ROOT / name for name in FILES]
    for folder in FOLDERS:
        paths += sorted((ROOT / folder).rglob("*"))
    for path in paths:
        if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8", errors="replace")


def test_no_invented_words():
    pattern = re.compile(rf"\b({'|'.join(TERMS)})\b", re.IGNORECASE)
    found = []
    for name, text in texts():
        for number, line in enumerate(text.splitlines(), 1):
            for match in pattern.finditer(line):
                found.append(f"{name}:{number}: {match.group()}")
    assert found == []

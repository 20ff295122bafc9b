"""What the documentation claims is what a command gave: the tables of docs/evidence.md, and the README's numbers."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "evidence.md"
RESULTS = ROOT / "benchmarks" / "results"
NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:\.\d+)?(?![\w.]*\w)")
LINK = re.compile(r"\[([^\]]*)\]\(docs/evidence\.md#([\w-]+)\)")


@pytest.fixture(scope="module")
def evidence() -> ModuleType:
    """benchmarks/evidence.py, which is a script."""
    spec = importlib.util.spec_from_file_location("evidence", ROOT / "benchmarks/evidence.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_shows_what_was_recorded(evidence):
    page = PAGE.read_text(encoding="utf-8")
    assert evidence.fill(page) == page  # else: python benchmarks/evidence.py page


def test_every_record_is_shown():
    shown = re.findall(r"<!-- recorded: ([\w-]+) -->", PAGE.read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(file.stem for file in RESULTS.glob("*.json"))


def test_number_of_the_readme_is_in_the_section_that_it_links_to():
    unknown = []
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        linked = LINK.findall(line)
        known = {number for _, anchor in linked for number in numbers(section(anchor))}
        for number in numbers(LINK.sub(r"\1", line)) if linked else ():
            if number not in known:
                unknown.append((number, line))
    assert unknown == []


def section(anchor: str) -> str:
    """The part of the page below a heading, up to the next one."""
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    sections = {title_of(part).lower().replace(" ", "-"): part for part in parts[1:]}
    return sections[anchor]


def title_of(part: str) -> str:
    return part.partition("\n")[0].strip()


def numbers(text: str) -> set[str]:
    """The numbers of a text, without code and the addresses of links; minus signs as a keyboard has them."""
    plain = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    return {number.replace("−", "-").removeprefix("+") for number in NUMBER.findall(plain)}


def test_a_wrong_number_is_found():
    assert numbers("loses −0.3 of 42.7 [AP](x.md#y-2) in `edge 7` on 4-core RepVGG2 or 1,365") >= {"-0.3", "42.7"}
    assert "7" not in numbers("`edge 7`") and "2" not in numbers("[AP](x.md#y-2)")

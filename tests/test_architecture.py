"""The statements of docs/architecture.md and CONTRIBUTING.md about files, tables, imports and commands are true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from runtimes.formats import FORMATS

tomllib = pytest.importorskip("tomllib", reason="in Python from 3.11 on")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLACES = ("runtimes/", "quantize/", "edge_mrcnn/", "tests/", "docs/", ".ci/")


class Entry(NamedTuple):
    """A line of the listing of a change."""

    is_new: bool
    file: str
    remark: str


def read_changes() -> dict[str, list[Entry]]:
    """Anchor of each change to the files that it touches."""
    changes = {}
    for title, listing in re.findall(r"^### (.+?)\n\n```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        lines = re.findall(r"^(new|line)\s+(\S+)\s+(.+)$", listing, re.MULTILINE)
        anchor = title.lower().replace(" ", "-")
        changes[anchor] = [Entry(kind == "new", file, remark) for kind, file, remark in lines]
    return changes


CHANGES = read_changes()
ENTRIES = sorted({entry for entries in CHANGES.values() for entry in entries})
PATHS = sorted({path for path in re.findall(r"`([\w./-]+)`", PAGE + GUIDE) if path.startswith(PLACES)})
CONTRACTS = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| `([\w/.]+)` \|", PAGE, re.MULTILINE)


def defines(file: Path, name: str) -> bool:
    """Whether a name is defined at the top of a file."""
    return re.search(rf"^(?:class {name}\b|{name}(?:: [^=]+)? = )", file.read_text(), re.MULTILINE) is not None


def test_every_change_of_the_table_has_its_listing() -> None:
    rows = re.findall(r"^\| \[.+?\]\(#(.+?)\) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    told = {anchor: (int(files), int(new)) for anchor, files, new in rows}
    listed = {anchor: (len(entries), sum(entry.is_new for entry in entries)) for anchor, entries in CHANGES.items()}
    assert told == listed


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if not entry.is_new], ids=lambda entry: entry.file)
def test_touched_file_is_there_and_has_its_table(entry: Entry) -> None:
    file = ROOT / entry.file
    assert file.is_file()
    for table in re.findall(r"^[A-Z]\w*[A-Z]\b", entry.remark):
        assert defines(file, table)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.is_new], ids=lambda entry: entry.file)
def test_new_file_would_stand_beside_its_like(entry: Entry) -> None:
    assert len(list(ROOT.glob(entry.file.replace("NAME", "[a-z]*")))) >= len(FORMATS)


@pytest.mark.parametrize("path", PATHS)
def test_path_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("names", "file"), CONTRACTS, ids=[names for names, _ in CONTRACTS])
def test_contract_stands_where_the_page_says(names: str, file: str) -> None:
    assert all(defines(ROOT / file, name) for name in re.findall(r"\w+", names))


def test_the_page_names_contracts() -> None:
    assert len(CONTRACTS) >= 10


def test_layers_are_those_of_the_linter() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [contract["layers"] for contract in settings["contracts"] if contract.get("containers")]
    assert "```text\n" + "\n".join(layers) + "\n```" in PAGE


@pytest.mark.parametrize(("table", "file"), re.findall(r"`([A-Z]+)` in\s+`([\w/.]+)`", PAGE))
def test_table_of_a_further_job_has_a_line_for_each_format(table: str, file: str) -> None:
    text = (ROOT / file).read_text()
    listing = re.search(rf"^{table}\b.*?^\}}", text, re.MULTILINE | re.DOTALL)
    assert listing is not None
    assert re.findall(r'^    "(\w+)":', listing[0], re.MULTILINE) == list(FORMATS)


def test_commands_of_the_guide_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([\w-]+)", GUIDE, re.MULTILINE))
    assert {"setup", "check", "test"} <= named <= targets


def test_fixtures_that_are_shared_are_there() -> None:
    named = re.search(r"share\s+one: (.+?)\. Tests that install", GUIDE, re.DOTALL)
    assert named is not None
    for names, file in re.findall(r"((?:`\w+`(?: and )?)+)\s+in\s+`(\S+)`", named[1]):
        text = (ROOT / file).read_text()
        assert all(f"def {name}(" in text for name in re.findall(r"\w+", names.replace(" and ", " ")))

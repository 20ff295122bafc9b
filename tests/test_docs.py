"""The documentation: every command line parses, every link has a target, the site builds."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from edge_mrcnn.cli import COMMANDS, group
from runtimes.errors import MissingFileError

ROOT = Path(__file__).parents[1]
LLMS = ROOT / "docs" / "llms.txt"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", LLMS, *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(?:sh|console|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ |sudo )*(?:\S*/)?(edge-mrcnn .*)$", re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(edge-mrcnn [^`\n]+)`(?!`)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
REMOTE = re.compile(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=[\"']?https?://(?!localhost)", re.IGNORECASE)
SHELL = ("|", ">", ">>", "&&", "||", ";", "&", "2>", "<")


class Line(NamedTuple):
    """A command line in a page."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def command_lines() -> Iterator[Line]:
    """Every `edge-mrcnn ...` of a code block, continued lines joined, up to a pipe or redirection."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in COMMAND.findall(block.replace("\\\n", " ")):
                words = shlex.split(line, comments=True)
                end = next((i for i, word in enumerate(words) if word in SHELL), len(words))
                yield Line(page.relative_to(ROOT).as_posix(), tuple(words[1:end]))


def mentions() -> Iterator[Line]:
    """Every `edge-mrcnn ...` in running text."""
    for page in PAGES:
        for text in INLINE.findall(page.read_text(encoding="utf-8")):
            yield Line(page.relative_to(ROOT).as_posix(), tuple(shlex.split(text)[1:]))


def find_command(words: tuple[str, ...]) -> tuple[click.Command, list[str]]:
    """The command that words name, and the words after it."""
    command: click.Command = group
    context = click.Context(group, info_name="edge-mrcnn")
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=found.name)
    return command, rest


@pytest.mark.parametrize("line", list(command_lines()), ids=str)
def test_command_line_parses(line):
    command, rest = find_command(line.words)
    if {"-h", "--help", "--version"} & set(rest):
        return
    if "..." in rest:  # shortened
        check_options(command, rest)
        return
    with contextlib.suppress(MissingFileError):  # an option that reads its file, which is the reader's
        command.make_context(command.name, rest, parent=click.Context(group))


@pytest.mark.parametrize("line", list(mentions()), ids=str)
def test_mentioned_command_and_its_options_exist(line):
    check_options(*find_command(line.words))


def check_options(command: click.Command, words: list[str]) -> None:
    """Fail unless the command has every option among the words."""
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert asked <= known | {"-h", "--help", "--version"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    missing = []
    for link in filter(None, (a or b for a, b in LINK.findall(page.read_text(encoding="utf-8")))):
        target, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        file = (page.parent / target) if target else page
        has_anchors = file.suffix == ".md"  # behind a picture, # names the colour scheme that it is for
        if not file.exists() or (anchor and has_anchors and anchor not in anchors(file)):
            missing.append(link)
    assert missing == []


def anchors(page: Path) -> set[str]:
    """Of the headings of a page, as GitHub and mkdocs name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


def test_page_for_assistants_names_every_command():
    text = LLMS.read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+)[ `]", text))
    assert named >= set(COMMANDS)
    assert len(text) < 6_000  # short enough to be read whole


def test_figures_show_what_was_recorded():
    spec = importlib.util.spec_from_file_location("figures", ROOT / "benchmarks" / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    for name in figures.FIGURES:
        for scheme in figures.SCHEMES:
            picture = (ROOT / "docs" / "images" / f"figure-{name}-{scheme.name}.svg").read_text(encoding="utf-8")
            assert figures.fingerprint(name) in picture, f"{name} is old: python benchmarks/figures.py"


def test_site_builds_without_a_warning_and_needs_no_network(tmp_path):
    pytest.importorskip("material", reason="pip install 'edge-mrcnn[docs]'")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr

    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    for name, text in pages.items():
        assert not REMOTE.search(text), f"{name} loads something from another server"
    for verb in COMMANDS:
        assert f'id="edge-mrcnn-{verb}"' in pages["commands.html"]
    assert "runtimes.load" in pages["python-api.html"]
    assert (site / "llms.txt").is_file() and "--max-drop" in (site / "commands.md").read_text(encoding="utf-8")
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert "--max-drop" in index

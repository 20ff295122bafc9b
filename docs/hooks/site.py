"""Hooks of mkdocs: the page of all commands, and the Markdown of each page beside its HTML.

The line `<!-- every command -->` of a page is replaced by the help of each verb. Click writes help through a
formatter, so a formatter that writes Markdown gives the same words, sections and defaults as `--help`.

llms.txt links to pages as Markdown, which assistants read more easily than HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.cli import COMMANDS, group

MARKER = "<!-- every command -->"
PROGRAM = "edge-mrcnn"
SHORT_CODE = re.compile(r"<code>([^<\n]{1,28})</code>")


PAGES: dict[str, str] = {}
"""Path of each page below docs -> its Markdown, with the commands filled in."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    if MARKER in markdown:
        markdown = markdown.replace(MARKER, "\n\n".join(sections()))
    PAGES[page.file.src_uri] = markdown
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Called by mkdocs with the HTML of each page: mark short code, which the style sheet keeps on one line."""
    return SHORT_CODE.sub(r'<code class="short">\1</code>', html)


def on_post_build(config: Any, **_: Any) -> None:
    """Called by mkdocs when the site is written."""
    for name, markdown in PAGES.items():
        (Path(config.site_dir) / name).write_text(markdown, encoding="utf-8")


def sections() -> Iterator[str]:
    """The Markdown of each verb, in the order of `edge-mrcnn --help`."""
    for verb in COMMANDS:
        parent = click.Context(group, info_name=PROGRAM)
        command = group.get_command(parent, verb)
        assert command is not None
        yield from describe(command, click.Context(command, info_name=verb, parent=parent), level=2)


def describe(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    """A command and, below it, its subcommands."""
    formatter = MarkdownFormatter()
    command.format_help(context, formatter)
    heading = f"{'#' * level} {context.command_path}"
    yield f"{heading}\n\n{formatter.getvalue()}"
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if child is not None:
            yield from describe(child, click.Context(child, info_name=name, parent=context), level + 1)


class MarkdownFormatter(click.HelpFormatter):
    """Writes the parts of a help text as Markdown: usage, paragraphs, headings, lists of options."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        self.write(f"```text\n{prog} {args}\n```\n\n")

    def write_heading(self, heading: str) -> None:
        self.write(f"**{heading}**\n\n")

    def write_text(self, text: str) -> None:
        self.write(f"{escape(text)}\n\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        for term, text in rows:
            self.write(f"`{term}`\n:   {escape(text) or '…'}\n\n")

    def write_paragraph(self) -> None:
        self.write("\n")


def escape(text: str) -> str:
    """Text of a help line as Markdown that shows the same; code between backticks stays as it is."""
    text = text.replace("\b", "")
    parts = re.split(r"(`[^`]*`)", text)
    for place in range(0, len(parts), 2):  # those between are code
        parts[place] = re.sub(r"([\\*_\[\]<>#|])", r"\\\1", parts[place])
    return "".join(parts)

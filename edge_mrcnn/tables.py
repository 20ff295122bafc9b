"""Tables that read well in a terminal and as GitHub Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NONE = "–"
"""Stands where there is nothing to say."""
WIDTH = 100
"""Of a terminal, in characters."""
EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Table:
    """Cells, ready to be laid out."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    """So many columns at the left are words; the rest are figures, aligned right."""

    def text(self, gap: str = "  ") -> list[str]:
        """Lines for a terminal, header first; bars and other words in the last columns stay at the left."""
        widths = self._widths()
        return [gap.join(self._padded(row, widths)).rstrip() for row in (self.header, *self.rows)]

    def markdown(self) -> list[str]:
        """Lines of GitHub Markdown, which also align in a terminal."""
        widths = self._widths()
        header, *body = (f"| {' | '.join(self._padded(row, widths))} |" for row in (self.header, *self.rows))
        rule = ["-" * (w + 2) if i < self.text_columns else "-" * (w + 1) + ":" for i, w in enumerate(widths)]
        return [header, f"|{'|'.join(rule)}|", *body]

    def with_column(self, title: str, cells: Sequence[str]) -> Table:
        """One more column at the right."""
        rows = tuple((*row, cell) for row, cell in zip(self.rows, cells, strict=True))
        return Table((*self.header, title), rows, self.text_columns)

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]

    def _padded(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        pairs = enumerate(zip(row, widths, strict=True))
        return [cell.ljust(width) if i < self.text_columns else cell.rjust(width) for i, (cell, width) in pairs]


def draw_bars(values: Sequence[float], width: int) -> list[str]:
    """A bar for each value, the largest of so many characters; all of one length, so that they align."""
    largest = max(values, default=0.0) or 1.0
    return [_bar(value / largest * width).ljust(width) for value in values]


def draw_curve(values: Sequence[float | None], lowest: float | None = None) -> str:
    """One character per value, from `lowest`, or the smallest of them, to the largest; a dot where there is none."""
    known = [value for value in values if value is not None]
    low = min(known, default=0.0) if lowest is None else lowest
    span = max(known, default=0.0) - low or 1.0
    top = len(LEVELS) - 1
    return "".join("·" if v is None else LEVELS[min(top, max(0, round((v - low) / span * top)))] for v in values)


def _bar(length: float) -> str:
    whole, part = divmod(round(length * 8), 8)
    return EIGHTHS[8] * whole + (EIGHTHS[part] if part else "")

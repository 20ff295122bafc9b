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
        return [gap.join(cells).rstrip() for cells in self._aligned()]

    def markdown(self) -> list[str]:
        """Lines of GitHub Markdown, which also align in a terminal."""
        header, *body = [f"| {' | '.join(cells)} |" for cells in self._aligned()]
        rule = "|"
        for column, width in enumerate(self._widths()):
            end = "-" if column < self.text_columns else ":"  # a colon aligns right
            rule += "-" * (width + 1) + end + "|"
        return [header, rule, *body]

    def with_column(self, title: str, cells: Sequence[str]) -> Table:
        """One more column at the right."""
        rows = []
        for row, cell in zip(self.rows, cells, strict=True):
            rows.append((*row, cell))
        return Table((*self.header, title), tuple(rows), self.text_columns)

    def _widths(self) -> list[int]:
        widths = []
        for column in zip(self.header, *self.rows, strict=True):
            widths.append(max(len(cell) for cell in column))
        return widths

    def _aligned(self) -> list[list[str]]:
        """All rows, the header first, with the cells of a column equally wide."""
        widths = self._widths()
        rows = []
        for row in (self.header, *self.rows):
            cells = []
            for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
                is_text = column < self.text_columns
                cells.append(cell.ljust(width) if is_text else cell.rjust(width))
            rows.append(cells)
        return rows


def draw_bars(values: Sequence[float], width: int) -> list[str]:
    """A bar for each value, the largest of so many characters; all of one length, so that they align."""
    largest = max(values, default=0.0) or 1.0
    bars = []
    for value in values:
        bar = _bar(value / largest * width)
        bars.append(bar.ljust(width))
    return bars


def draw_curve(values: Sequence[float | None], lowest: float | None = None) -> str:
    """One character per value, from `lowest`, or the smallest of them, to the largest; a dot where there is none."""
    known = [value for value in values if value is not None]
    low = min(known, default=0.0) if lowest is None else lowest
    span = max(known, default=0.0) - low
    span = span or 1.0  # where all are equal
    top = len(LEVELS) - 1
    curve = ""
    for value in values:
        if value is None:
            curve += "·"
        else:
            level = round((value - low) / span * top)
            curve += LEVELS[min(top, max(0, level))]
    return curve


def _bar(length: float) -> str:
    whole, eighths = divmod(round(length * 8), 8)
    last = EIGHTHS[eighths] if eighths else ""
    return EIGHTHS[8] * whole + last

"""Tables for a terminal and for GitHub Markdown, and counts in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NONE = "–"
"""Fills an empty cell."""
WIDTH = 100
"""Width of a terminal, in characters."""
EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"


def counted(count: int, one: str, many: str = "") -> str:
    """Such as "1 frame", "2 frames" or "2 boxes"."""
    noun = one if count == 1 else many or f"{one}s"
    return f"{count} {noun}"


@dataclass(frozen=True)
class Table:
    """A header and rows of cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    """Number of columns at the left that hold words; the rest hold figures, aligned right."""

    def text(self, gap: str = "  ") -> list[str]:
        """Lines for a terminal, header first; the text columns are aligned left."""
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
    """A bar for each value; the largest has this many characters, and all are padded to one length."""
    largest = max(values, default=0.0) or 1.0
    bars = []
    for value in values:
        bar = _bar(value / largest * width)
        bars.append(bar.ljust(width))
    return bars


def draw_curve(values: Sequence[float | None], lowest: float | None = None) -> str:
    """One character per value, from `lowest`, or the smallest value, to the largest; a dot for missing values."""
    known = [value for value in values if value is not None]
    low = min(known, default=0.0) if lowest is None else lowest
    span = max(known, default=0.0) - low
    span = span or 1.0  # all values are equal
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

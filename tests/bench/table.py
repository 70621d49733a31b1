"""A table, for a terminal and for a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Cells as they are shown; the first column is of words, the others are of figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_text(self) -> str:
        """With aligned columns, for a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = [
            "  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(pairs))
            for pairs in (zip(line, widths, strict=True) for line in lines)
        ]
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in shown), ""])

    def as_markdown(self) -> str:
        """Without the title: a document has headings of its own."""
        rule = ["---", *("---:" for _ in self.columns[1:])]
        return "".join(f"| {' | '.join(cells)} |\n" for cells in (self.columns, rule, *self.rows))

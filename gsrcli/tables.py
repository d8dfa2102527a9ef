"""Write tables: aligned for people, in Markdown, and as CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gsrcli.runtime.files import encoded

if TYPE_CHECKING:
    import rich.table

__all__ = ["Column", "Table", "to_csv"]

T = TypeVar("T")

_WIDEST = 400  # characters in a line of aligned text


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table whose rows are made from objects of one type.

    Attributes:
        title: heading, of one or more lines.
        text: returns the text of the cell for an object; None for an empty cell.
        left: whether cells are aligned left, for words, or right, for numbers.
    """

    title: str
    text: Callable[[T], str | None]
    left: bool = False


@dataclass(frozen=True)
class Table:
    """Headings, and rows with one cell per heading. Columns whose headings are in ``left`` are aligned left."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: frozenset[str] = frozenset()

    @classmethod
    def of(cls, columns: Iterable[Column[T]], objects: Sequence[T]) -> Table:
        """Make a row from each object; omit columns that have no text at all."""
        filled = [(column, [column.text(each) or "" for each in objects]) for column in columns]
        shown = [(column, texts) for column, texts in filled if any(texts)]
        return cls(
            [column.title for column, _ in shown],
            list(zip(*(texts for _, texts in shown), strict=True)),
            frozenset(column.title for column, _ in shown if column.left),
        )

    def __rich__(self) -> rich.table.Table:
        """Return the table for rich, with a line below the headings."""
        from rich import box
        from rich.table import Table as RichTable

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for title in self.headings:
            table.add_column(title, justify="left" if title in self.left else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        return table

    def text(self) -> str:
        """Return the table as aligned text, as wide as it needs to be."""
        from rich.console import Console

        file = io.StringIO()
        Console(file=file, width=_WIDEST, color_system=None, markup=False, emoji=False).print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def markdown(self) -> list[str]:
        """Return the lines of the table in Markdown; no lines without columns."""
        if not self.headings:
            return []
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        return [f"| {' | '.join(map(_escaped, line))} |" for line in lines]


def to_csv(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table as CSV (RFC 4180) in UTF-8; None becomes an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(headings)
    writer.writerows(rows)
    return encoded(text.getvalue())


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", "<br>")

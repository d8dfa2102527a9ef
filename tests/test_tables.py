"""Tables: aligned for people, in Markdown, and as CSV for programs."""

from __future__ import annotations

import csv
import io
import subprocess
import sys

from gsrcli.tables import Column, Table, to_csv

COLUMNS = [
    Column[tuple[str, float | None]]("what", lambda row: row[0], left=True),
    Column[tuple[str, float | None]]("how\nmuch", lambda row: None if row[1] is None else f"{row[1]:.1f}"),
]


def test_words_are_aligned_left_and_numbers_right() -> None:
    table = Table.of(COLUMNS, [("parrot", 1.5), ("wren", 123.25), ("owl", None)])
    lines = table.text().splitlines()
    assert [line.split() for line in lines if "─" not in line] == [
        *(["how"], ["what", "much"], ["parrot", "1.5"], ["wren", "123.2"], ["owl"]),
    ]
    assert [line.index(word) for line, word in zip(lines[-3:], ("parrot", "wren", "owl"), strict=True)] == [0, 0, 0]
    assert len(lines[-3]) == len(lines[-2]) == lines[1].index("much") + len("much")
    assert all(line == line.rstrip() for line in lines)


def test_columns_without_any_text_are_left_out() -> None:
    assert Table.of(COLUMNS, [("owl", None)]).headings == ["what"]
    assert Table.of(COLUMNS, []).markdown() == []


def test_columns_may_have_one_title() -> None:
    table = Table.of([COLUMNS[0], COLUMNS[1], COLUMNS[1]], [("owl", 2.0)])
    assert table.rows == [("owl", "2.0", "2.0")]


def test_text_means_what_it_says() -> None:
    """No markup, and no names of emoji, which rich would replace."""
    assert "[red]:owl:[/red]" in Table.of(COLUMNS, [("[red]:owl:[/red]", 1.0)]).text()


def test_markdown_keeps_a_row_in_a_line_and_a_cell_in_a_column() -> None:
    assert Table.of(COLUMNS, [("a|b\nc", 2.0)]).markdown() == [
        "| what | how<br>much |",
        "| --- | --- |",
        r"| a\|b<br>c | 2.0 |",
    ]


def test_csv_gives_back_what_was_written() -> None:
    rows = [['say "hi"', "a,b", "two\nlines"], ["", "×2", "1e-05"]]
    content = to_csv(["one", "two", "three"], [rows[0], [None, "×2", 1e-05]])
    assert list(csv.reader(io.StringIO(content.decode(), newline=""))) == [["one", "two", "three"], *rows]


def test_csv_spells_out_undecodable_names() -> None:
    assert to_csv(["name"], [["owl\udcff"]]) == b"name\r\nowl\\udcff\r\n"


def test_markdown_needs_the_standard_library_alone() -> None:
    program = "import sys, gsrcli.tables; print(*{'torch', 'numpy', 'rich', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

"""What the console makes of texts."""

from __future__ import annotations

import re

import pytest

from gsrcli.cli.console import Console

TEXT = "a [bold]:cat:[/bold] \N{CAT} 12 'b' http://c.d"


def test_messages_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of files may look like rich's markup, emoji codes, or what it highlights."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console()
    console.note(TEXT)
    console.error(TEXT, hint=TEXT)
    assert capsys.readouterr().err == f"{TEXT}\n\x1b[31merror: {TEXT}\x1b[0m\n  {TEXT}\n"


@pytest.mark.parametrize("coloured", [False, True])
def test_a_table_shows_its_cells_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, coloured: bool
) -> None:
    """On a terminal the headings are bold; control characters of the cells are escaped."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    if coloured:
        monkeypatch.setenv("FORCE_COLOR", "1")
    Console().table(("first", "second"), [(TEXT, "x\x1b[31my")], [f"note: {TEXT}"], {})
    shown = capsys.readouterr().out
    assert ("\x1b[1m" in shown) == coloured
    lines = [line.rstrip() for line in re.sub(r"\x1b\[\d*m", "", shown).splitlines()]
    assert [line.split() for line in lines[:1]] == [["first", "second"]]
    assert lines[1:] == [f"{TEXT}  x\\x1b[31my", f"note: {TEXT}"]

"""Remarks on pictures, each said once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gsrcli.cli.console import Console
from gsrcli.cli.remarks import Remarks
from gsrcli.images import Entry, Fate, Ledger


def said(capsys: pytest.CaptureFixture[str], remarks: Remarks) -> list[str]:
    remarks.say(Console())
    return capsys.readouterr().err.splitlines()


def add(remarks: Remarks, name: str, reading: Ledger = (), writing: Ledger = ()) -> None:
    remarks.add(Path(f"in/{name}.png"), Path(f"out/{name}.jpg"), "JPEG", reading, writing)


def test_a_picture_has_a_line_for_each_fate(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes stand before warnings; what was kept is not worth a line."""
    remarks = Remarks()
    reading = (
        Entry("gain map", Fate.LOST),
        Entry("text chunk", Fate.DAMAGED),
        Entry("CMYK", Fate.CONVERTED, "to sRGB"),
    )
    writing = (Entry("EXIF", Fate.KEPT), Entry("XMP", Fate.LOST), Entry("IPTC", Fate.LOST))
    add(remarks, "a", reading, writing)
    assert said(capsys, remarks) == [
        "note: in/a.png: converted CMYK to sRGB",
        "warning: in/a.png: damaged text chunk",
        "warning: in/a.png: lost gain map",
        "warning: out/a.jpg: JPEG does not keep XMP, IPTC",
    ]


def test_equal_remarks_are_said_once_with_the_first_names(capsys: pytest.CaptureFixture[str]) -> None:
    remarks = Remarks()
    for name in "abc":
        add(remarks, name, (Entry("gain map", Fate.LOST),))
    for number in range(300):
        add(remarks, str(number), (), (Entry("XMP", Fate.LOST),))
    assert said(capsys, remarks) == [
        "warning: 3 pictures: lost gain map (a.png, b.png, c.png)",
        "warning: 300 pictures: JPEG does not keep XMP (0.jpg, 1.jpg, 2.jpg, …)",
    ]


def test_many_parts_are_not_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    remarks = Remarks()
    add(remarks, "a", tuple(Entry(f"frame {number}", Fate.DAMAGED) for number in range(1, 101)))
    frames = ", ".join(f"frame {number}" for number in range(1, 9))
    assert said(capsys, remarks) == [f"warning: in/a.png: damaged {frames}, 92 more"]


def test_what_is_kept_is_said_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    remarks = Remarks(verbose=True)
    add(remarks, "a", (), (Entry("EXIF", Fate.KEPT), Entry("dpi", Fate.KEPT)))
    assert said(capsys, remarks) == ["note: in/a.png: kept EXIF, dpi"]

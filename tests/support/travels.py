"""The table of journeys: what is kept, converted and lost of every kind of file in every format. Run this file."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from gsrcli.images import Fate, output_formats
from support.carriers import CARRIERS
from support.journeys import journey

__all__ = ["table"]

_HEADINGS = ("in", "out", "kept", "converted", "warned")


def table() -> str:
    """Return the table in Markdown: a row for every file of `CARRIERS` and every format that can be written."""
    rows = [_HEADINGS, ("---",) * len(_HEADINGS)]
    with tempfile.TemporaryDirectory() as folder:
        for name, make in CARRIERS.items():
            source = Path(folder) / name
            source.write_bytes(make())
            for form in output_formats():
                trip = journey(source, form, Path(folder))
                lost = [f"{fate} {line}" for fate in (Fate.LOST, Fate.DAMAGED) for line in trip.with_fate(fate)]
                kept = [*filter(None, [trip.pictures]), *trip.with_fate(Fate.KEPT)]
                converted = trip.with_fate(Fate.CONVERTED)
                cells = (name.replace("_", " "), form.name, *map(", ".join, (kept, converted, lost)))
                rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())

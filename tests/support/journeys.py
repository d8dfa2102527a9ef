"""Take pictures from file to file, without enlarging them, and keep the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gsrcli.errors import UsageError
from gsrcli.images import (
    Fate,
    Feature,
    Format,
    Ledger,
    Picture,
    PictureFile,
    fit,
    require_several,
    write_picture,
    write_pictures,
)

__all__ = ["Journey", "journey"]


class Journey:
    """What became of a picture on its way from a file to another.

    Attributes:
        data: content of the file that was written.
        several: whether it holds all pictures of the file that was read, of which there are several.
        ledger: of reading and of fitting, for all pictures.
    """

    def __init__(self, data: bytes, several: bool, ledger: Ledger) -> None:
        self.data, self.several, self.ledger = data, several, tuple(dict.fromkeys(ledger))

    def with_fate(self, fate: Fate) -> list[str]:
        return [str(entry) for entry in self.ledger if entry.fate == fate]


def journey(source: Path, form: Format, folder: Path) -> Journey:
    """Read a file, fit all its pictures, or one if the format holds one, to a format, and write them."""
    file, target = PictureFile(source), folder / f"{source.stem}{form.suffixes[0]}"
    background = (255, 255, 255) if Feature.TRANSPARENCY not in form.keeps else None
    ledger: Ledger = ()
    several = file.count > 1 and _holds(target, file)

    def fitted() -> Iterator[Picture]:
        nonlocal ledger
        for picture in file if several else [replace(file.picture(), duration=None)]:
            result, entries = fit(picture, form, background)
            ledger += (*picture.ledger, *entries)
            yield result

    if several:
        write_pictures(fitted(), target, loops=file.loops)
    else:
        write_picture(next(fitted()), target)
    return Journey(target.read_bytes(), several, ledger)


def _holds(target: Path, file: PictureFile) -> bool:
    try:
        require_several(target, animated=file.animated)
    except UsageError:
        return False
    return True

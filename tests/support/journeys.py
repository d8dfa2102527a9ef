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
        path: the file that was written.
        pictures: what it holds of several pictures, such as "3 frames" or "1 of 3 pages"; nothing for a file of one.
        ledger: of reading and of fitting, for all pictures.
    """

    def __init__(self, path: Path, pictures: str, ledger: Ledger) -> None:
        self.path, self.pictures, self.ledger = path, pictures, tuple(dict.fromkeys(ledger))

    @property
    def data(self) -> bytes:
        """Content of the file that was written."""
        return self.path.read_bytes()

    @property
    def whole(self) -> bool:
        """Whether all pictures were written."""
        return not self.pictures.startswith("1 of")

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
    pictures = f"{'' if several else '1 of '}{file.count} {file.noun}s" if file.count > 1 else ""
    return Journey(target, pictures, ledger)


def _holds(target: Path, file: PictureFile) -> bool:
    try:
        require_several(target, frames=file.animated)
    except UsageError:
        return False
    return True

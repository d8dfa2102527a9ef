"""Read ICO and CUR files: icons and cursors of Windows, in several sizes."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from gsrcli.errors import PictureError
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.picture import Origin, Picture, Pixels
from gsrcli.images.readers.bmp import Dib
from gsrcli.images.readers.png import PngSource
from gsrcli.images.readers.signatures import PNG
from gsrcli.images.readers.source import DAMAGED, Limits, Source, appended

__all__ = ["IcoSource"]

_PNG_END = b"IEND\xaeB`\x82"
_CURSOR = 2
_HEADER = 40  # bytes of the header of a bitmap
_ENTRY = struct.Struct("<BBBBHHII")


class IcoSource(Source):
    """An ICO or CUR file: the largest of its pictures, and of those the one with most bits."""

    format = "ICO"

    def __init__(self, data: bytes, limits: Limits) -> None:
        count = int.from_bytes(data[4:6], "little")
        if len(data) < 6 + _ENTRY.size * count:
            raise PictureError(DAMAGED)
        places = [_ENTRY.unpack_from(data, 6 + _ENTRY.size * number)[-2:] for number in range(count)]
        starts = [at for _, at in places]
        areas = [_area_and_bits(data[at : at + _HEADER]) for at in starts]
        self._others = count - 1
        chosen = areas.index(max(areas))
        _, _, _, _, *spot, _, _ = _ENTRY.unpack_from(data, 6 + _ENTRY.size * chosen)
        self._pointing = data[2] == _CURSOR and any(spot)
        picture = data[starts[chosen] :]  # many files state wrong sizes in their list
        self._appended = appended(data[max(*map(sum, places), max(starts) + _end(data[max(starts) :])) :])
        self._picture = (
            PngSource(picture[: _end(picture)], limits)
            if picture.startswith(PNG)
            else Dib(_halved(picture), alpha=True)
        )
        self.size = self._picture.size
        limits.check(self.size)

    def picture(self, index: int = 0) -> Picture:
        smaller = "a smaller picture" if self._others == 1 else f"{self._others} smaller pictures"
        found = {smaller: self._others, "hot spot": self._pointing}
        lost = [*(Entry(what, Fate.LOST) for what, there in found.items() if there), *self._appended]
        if isinstance(self._picture, PngSource):
            picture = self._picture.picture()
            return replace(picture, ledger=(*picture.ledger, *lost), origin=Origin(self.format))
        decoded = self._picture.decode()
        colour, found_colours = self._picture.colour()
        return Picture(
            decoded.pixels,
            self._mask(self._picture) if decoded.alpha is None else decoded.alpha,
            colour=colour,
            ledger=(*decoded.entries, *found_colours, *lost),
            origin=Origin(self.format),
        )

    @staticmethod
    def _mask(dib: Dib) -> Pixels | None:
        """Return alpha of the mask of one bit that follows the pixels; None if there is none, or it hides nothing."""
        height, width = dib.size
        end = min(dib.pixels_end + _mask_bytes(dib), dib.profile[0])
        stored = np.frombuffer(dib.data[dib.pixels_end : end], np.uint8)
        if stored.size < _mask_bytes(dib):
            return None
        hidden = np.unpackbits(stored.reshape(height, -1)[::-1], axis=1, count=width)
        return (1 - hidden) * np.uint8(255) if hidden.any() else None


def _area_and_bits(picture: bytes) -> tuple[int, int]:
    """Return the number of pixels and of bits per pixel that the header of an icon's picture states."""
    if picture.startswith(PNG) and len(picture) == _HEADER:
        width, height = struct.unpack_from(">II", picture, 16)
        return width * height, picture[24] * 4
    if len(picture) == _HEADER:
        width, height, _, bits = struct.unpack_from("<iiHH", picture, 4)
        return abs(width * (height // 2)), bits
    return 0, 0


def _end(picture: bytes) -> int:
    """Return where an icon's picture ends, which starts these bytes; all of them if that cannot be told."""
    if picture.startswith(PNG):
        at = picture.find(_PNG_END)
        return at + len(_PNG_END) if at >= 0 else len(picture)
    try:
        dib = Dib(_halved(picture))
    except PictureError:
        return len(picture)
    return max(min(dib.pixels_end + _mask_bytes(dib), dib.profile[0]), dib.profile[1])


def _mask_bytes(dib: Dib) -> int:
    """Return the length of the mask of one bit that follows the pixels."""
    height, width = dib.size
    return height * ((width + 31) // 32 * 4)


def _halved(picture: bytes) -> bytes:
    """Return a bitmap with half the height in its header: that counts the mask too."""
    if len(picture) < _HEADER:
        raise PictureError(DAMAGED)
    (height,) = struct.unpack_from("<i", picture, 8)
    return picture[:8] + struct.pack("<i", int(height / 2)) + picture[12:]

"""Read rows of a picture that comes in strips, and prepare them for the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gsrcli.images import bleed_alpha
from gsrcli.images.strips import Strip, Strips, joined

__all__ = ["Rows", "bled"]

_BLED_ROWS = 512
_BLEED_REACH = 64
"""In pixels: farther from everything visible, no network sees it, and interpolation does not either."""


class Rows:
    """Rows of a picture, read from top to bottom.

    Args:
        picture: the picture; its strips are asked for once.
    """

    def __init__(self, picture: Strips) -> None:
        self.height = picture.size.height
        self._coming = iter(picture)
        self._held: list[Strip] = []
        self._first = self._end = 0  # of the rows that are held

    def __call__(self, begin: int, end: int) -> Strip:
        """Return rows [begin, end), none of them forgotten."""
        assert self._first <= begin < end <= self.height
        while self._end < end:
            self._held.append(next(self._coming))
            self._end += len(self._held[-1].pixels)
        found, at = list[Strip](), self._first
        for strip in self._held:
            first, last = max(begin - at, 0), min(end - at, len(strip.pixels))
            if first < last:
                found.append(strip.cut(first, last))
            at += len(strip.pixels)
        return joined(found)

    def forget(self, before: int) -> None:
        """Let go of the memory of rows above this one, as far as whole strips are above it."""
        while self._held and self._first + len(self._held[0].pixels) <= before:
            self._first += len(self._held.pop(0).pixels)


def bled(picture: Strips) -> Strips:
    """Return a picture with colours under full transparency near visible ones replaced; see `bleed_alpha`."""

    def source() -> Iterator[Strip]:
        rows, height = Rows(picture), picture.size.height
        for begin in range(0, height, _BLED_ROWS):
            end = min(begin + _BLED_ROWS, height)
            top = max(0, begin - _BLEED_REACH)
            around = rows(top, min(height, end + _BLEED_REACH))
            assert around.alpha is not None
            filled = Strip(bleed_alpha(around.pixels, around.alpha, _BLEED_REACH), around.alpha)
            yield filled.cut(begin - top, end - top)
            rows.forget(end - _BLEED_REACH)

    return replace(picture, source=source)

"""Pictures that come in strips of rows, so that memory need not hold them whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from gsrcli.images.description import Description, Raster
from gsrcli.images.picture import Picture, Pixels
from gsrcli.size import Size

__all__ = ["Strip", "Strips", "in_memory", "in_strips", "joined", "of_rows"]


class Strip(NamedTuple):
    """Some rows of a picture.

    Attributes:
        pixels: ``(rows, W, C)``.
        alpha: ``(rows, W)``, or None.
    """

    pixels: Pixels
    alpha: Pixels | None = None

    @property
    def layers(self) -> Pixels:
        """The rows with alpha, if any, as the last channel: ``(rows, W, C or C + 1)``."""
        return self.pixels if self.alpha is None else np.dstack((self.pixels, self.alpha))

    def cut(self, start: int, stop: int | None) -> Strip:
        """Return rows [start, stop), which count from the last if they are negative; None for all to it."""
        return Strip(self.pixels[start:stop], None if self.alpha is None else self.alpha[start:stop])


@dataclass(frozen=True, eq=False)
class Strips(Description):
    """A picture whose strips are decoded or computed one by one, from top to bottom; see also `Description`.

    Attributes:
        raster: size and type of the pixels.
        source: returns a new iterator over the strips, which together have all rows.
        opaque: whether all pixels are opaque.
        extremes: the smallest and the largest colour that counts, where pixels are floating point and it is known.

    Raises:
        ValueError: there are no such pictures.
    """

    raster: Raster
    source: Callable[[], Iterator[Strip]]
    opaque: bool
    extremes: tuple[float, float] | None = None

    def __iter__(self) -> Iterator[Strip]:
        rows = 0
        for strip in self.source():
            rows += len(strip.pixels)
            if rows > self.size.height:
                break
            yield strip
        if rows != self.size.height:
            raise ValueError(f"expected {self.size.height} rows, got {rows}")

    def picture(self) -> Picture:
        """Return the picture in memory."""
        strips, done = iter(self), 0
        first = next(strips)
        whole = len(first.pixels) == self.size.height
        pixels, alpha = first if whole else _blank(self.raster)
        for strip in strips if whole else chain([first], strips):
            end = done + len(strip.pixels)
            pixels[done:end] = strip.pixels
            if alpha is not None:
                assert strip.alpha is not None
                alpha[done:end] = strip.alpha
            done = end
        return Picture(pixels, alpha, **self.described())

    def asked_within(self, context: Callable[[], AbstractContextManager[object]]) -> Strips:
        """Return the picture; each strip is asked for within a context of its own, which may take the time of it."""

        def source() -> Iterator[Strip]:
            strips = iter(self)
            while True:
                with context():
                    strip = next(strips, None)
                if strip is None:
                    return
                yield strip
                del strip  # hold none while the next is decoded or computed

        return replace(self, source=source)

    def converted(self, convert: Callable[[Picture], Picture]) -> Strips:
        """Return the picture with its pixels, and what is said of them, converted as ``convert`` does.

        Args:
            convert: converts every pixel by itself, whatever those around it are.
        """
        described = self.described()
        one = self.raster._replace(size=Size(1, 1))
        sample = convert(Picture(*_blank(one), **described))

        def source() -> Iterator[Strip]:
            for strip in self:
                part = convert(Picture(*strip, **described))
                yield Strip(part.pixels, part.alpha)

        raster = sample.raster._replace(size=self.size)
        return Strips(raster, source, self.opaque or not raster.alpha, **sample.described())


def _blank(raster: Raster) -> Strip:
    """Return a strip of new arrays with all rows."""
    pixels = np.zeros((*raster.size, raster.channels), raster.dtype)
    return Strip(pixels, np.zeros(raster.size, raster.dtype) if raster.alpha else None)


def in_strips(picture: Description) -> Strips:
    """Return a picture as strips: one, if it is in memory."""
    if isinstance(picture, Strips):
        return picture
    assert isinstance(picture, Picture)
    strip = Strip(picture.pixels, picture.alpha)
    return Strips(picture.raster, lambda: iter([strip]), picture.opaque, picture.extremes, **picture.described())


def in_memory(picture: Description) -> Picture:
    """Return a picture in memory."""
    if isinstance(picture, Picture):
        return picture
    assert isinstance(picture, Strips)
    return picture.picture()


def of_rows(strips: Iterable[Strip], rows: int) -> Iterator[Strip]:
    """Cut strips anew, each of ``rows`` rows but the last."""
    waiting: list[Strip] = []
    count = 0
    for strip in strips:
        waiting.append(strip)
        count += len(strip.pixels)
        if count >= rows:
            block = joined(waiting)
            whole = count - count % rows
            for start in range(0, whole, rows):
                yield block.cut(start, start + rows)
            waiting, count = [block.cut(whole, count)] if count % rows else [], count % rows
    if waiting:
        yield joined(waiting)


def joined(strips: list[Strip]) -> Strip:
    """Return strips, at least one, as a single one."""
    if len(strips) == 1:
        return strips[0]
    pixels = np.concatenate([strip.pixels for strip in strips])
    alphas = [strip.alpha for strip in strips if strip.alpha is not None]
    return Strip(pixels, np.concatenate(alphas) if alphas else None)

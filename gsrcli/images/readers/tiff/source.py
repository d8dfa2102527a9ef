"""The pages of a TIFF file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gsrcli.errors import PictureError
from gsrcli.images.colour import Colour
from gsrcli.images.content import Content
from gsrcli.images.description import Origin, Raster
from gsrcli.images.directories import MalformedError, Tiff
from gsrcli.images.ledger import Entry, Fate
from gsrcli.images.picture import Picture, from_unit, to_unit
from gsrcli.images.readers.orientation import UPRIGHT_ROWS, upright
from gsrcli.images.readers.signatures import RAW_MAGIC
from gsrcli.images.readers.source import DAMAGED, Limits, Source, Survey, appended, large, streamed
from gsrcli.images.readers.source import Decoded as DecodedPixels
from gsrcli.images.readers.tiff.colours import Decoded
from gsrcli.images.readers.tiff.extent import unreferred
from gsrcli.images.readers.tiff.layout import Compression, Layout, Photometric, read_layout
from gsrcli.images.readers.tiff.metadata import PageMetadata, read_metadata
from gsrcli.images.readers.tiff.page import Directory, Page
from gsrcli.images.readers.tiff.raw import camera_raw, raw_error
from gsrcli.images.strips import Strips
from gsrcli.size import Size

__all__ = ["TiffSource"]

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE = 254, 255
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
_LOSSY = (Compression.JPEG, Compression.OLD_JPEG, Compression.WEBP)


class TiffSource(Source):
    """A TIFF file. Reduced copies of pages do not count as pages, nor do masks, which belong to the page before."""

    format = "TIFF"
    by_parts = True

    def __init__(self, data: Content, limits: Limits) -> None:
        if raw := RAW_MAGIC.get(data[:4]):
            raise raw_error(raw)
        self._data, self._limits = data, limits
        try:
            self._tiff = Tiff(data)
            directories, complete = self._tiff.directories()
        except MalformedError:
            raise PictureError(DAMAGED) from None
        if not directories:
            raise PictureError(DAMAGED)
        if raw := camera_raw(self._tiff, directories):
            raise raw_error(raw)
        self._faults = () if complete else (Entry("list of pages", Fate.DAMAGED, "(later ones cannot be found)"),)
        self._appended = appended(data, unreferred(self._tiff, directories)) if complete else []
        self._pages, self._masks = self._sorted(directories)
        self.count = len(self._pages)
        size = read_layout(self._tiff, self._pages[0], limits).size
        self.size = size.transposed if read_metadata(self._tiff, self._pages[0]).orientation > 4 else size

    def picture(self, index: int = 0) -> Picture:
        metadata, page = self._page(index)
        decoded = _told(page.decode(), page.layout.size)
        if index in self._masks:
            decoded = self._masked(decoded, self._masks[index])
        alpha = decoded.alpha
        return Picture(
            pixels=upright(decoded.pixels, metadata.orientation),
            alpha=None if alpha is None else upright(alpha, metadata.orientation),
            **self._described(page, metadata, decoded),
        )

    def strips(self, index: int = 0) -> Strips:
        metadata, page = self._page(index)
        rows_stay = metadata.orientation in UPRIGHT_ROWS
        if not large(page.raster) or not page.has_bands or not rows_stay or index in self._masks:
            return super().strips(index)
        try:
            survey, seen = _surveyed(page)
        except PictureError:  # of a band that is too damaged
            return super().strips(index)
        if survey.damaged:
            return super().strips(index)

        def decode() -> Iterator[DecodedPixels]:
            for band in page.bands():
                decoded = band.decode()
                alpha = None if decoded.alpha is None else upright(decoded.alpha, metadata.orientation)
                yield DecodedPixels(upright(decoded.pixels, metadata.orientation), alpha)

        raster = Raster(page.layout.size, seen.pixels.shape[2], seen.pixels.dtype, seen.alpha is not None)
        return streamed(raster, decode, survey, self._described(page, metadata, _told(seen, page.layout.size)))

    def _page(self, index: int) -> tuple[PageMetadata, Page]:
        directory = self._pages[index]
        layout = read_layout(self._tiff, directory, self._limits)
        metadata = read_metadata(self._tiff, directory)
        return metadata, Page(self._tiff, directory, layout, metadata.colour.icc, metadata.nodata)

    def _described(self, page: Page, metadata: PageMetadata, decoded: Decoded) -> dict[str, Any]:
        """Return what is known of a page besides its pixels, given what was found in them."""
        layout = page.layout
        if not decoded.same_numbers:
            metadata = metadata.for_other_numbers()
        in_rgb = layout.photometric == Photometric.RGB
        colour = replace(metadata.colour, chromaticities=metadata.colour.chromaticities if in_rgb else None)
        return {
            "colour": colour if decoded.same_colours else Colour(),
            "metadata": metadata.metadata,
            "ledger": (*self._faults, *_lost_channels(layout), *decoded.entries, *metadata.entries, *self._appended),
            "origin": Origin(self.format, lossless=layout.compression not in _LOSSY),
        }

    def _sorted(self, directories: list[Directory]) -> tuple[list[Directory], dict[int, Directory]]:
        """Return the pages, and their masks by the index of the page."""
        pages, masks = list[Directory](), dict[int, Directory]()
        for directory in directories:
            kind = self._tiff.first_number(directory.get(_SUBFILE_TYPE))
            reduced = kind & _REDUCED or self._tiff.first_number(directory.get(_OLD_SUBFILE_TYPE)) == _OLD_REDUCED
            if kind & _MASK and pages and not reduced:
                masks.setdefault(len(pages) - 1, directory)
            elif not kind & _MASK and not reduced:
                pages.append(directory)
        return pages or directories[:1], masks

    def _masked(self, decoded: Decoded, directory: Directory) -> Decoded:
        """Add a mask, whose pixels are 0 where the page is transparent, whatever its own alpha says there."""
        what = "transparency mask"
        try:
            mask = Page(self._tiff, directory, read_layout(self._tiff, directory, self._limits)).decode()
        except (PictureError, MalformedError):
            return replace(decoded, entries=[*decoded.entries, Entry(what, Fate.DAMAGED)])
        if Size.of(mask.pixels) != Size.of(decoded.pixels) or mask.pixels.shape[2] > 1:
            return replace(decoded, entries=[*decoded.entries, Entry(what, Fate.LOST)])
        alpha = from_unit(to_unit(mask.pixels[..., 0]), decoded.pixels.dtype)
        return replace(
            decoded,
            alpha=alpha if decoded.alpha is None else np.minimum(alpha, decoded.alpha),
            entries=[*decoded.entries, *(replace(entry, what=what) for entry in mask.entries)],
        )


def _surveyed(page: Page) -> tuple[Survey, Decoded]:
    """Look at all bands of a page, and at their pixels as long as they tell anything new.

    Returns:
        what is known of the page, and its first band as if all were like it.

    Raises:
        PictureError: a band is too damaged to be decoded by itself.
    """
    survey, first, bands = Survey(), None, page.bands()
    missing, same_numbers, transparent = 0, True, None
    for band in bands:
        decoded = band.decode()
        survey.add(decoded)
        first = first or decoded
        missing, same_numbers = missing + decoded.missing, same_numbers and decoded.same_numbers
        transparent = decoded.alpha if transparent is None else transparent
        told = decoded.pixels.dtype != np.float32 and (page.nodata is None or decoded.same_numbers)
        if told and (decoded.alpha is None or survey.alpha_known):
            break
    if not all(band.sound for band in bands):
        raise PictureError(DAMAGED)
    assert first is not None
    found = replace(first, alpha=transparent, entries=survey.entries, missing=missing, same_numbers=same_numbers)
    return survey, found


def _told(decoded: Decoded, size: Size) -> Decoded:
    """Return decoded pixels with an entry for those that have no data.

    Raises:
        PictureError: none of a picture of that size has any.
    """
    missing = decoded.missing
    if missing == size.area and decoded.pixels.dtype == np.float32:
        raise PictureError("none of its pixels holds a finite number")
    if not missing:
        return decoded
    entry = Entry(f"{missing} pixel{'s' * (missing > 1)} without data", Fate.CONVERTED, "to transparency")
    return replace(decoded, entries=[*decoded.entries, entry])


def _lost_channels(layout: Layout) -> list[Entry]:
    lost = layout.samples - layout.colours - (layout.alpha is not None)
    if not lost:
        return []
    return [Entry("extra channel" if lost == 1 else f"{lost} extra channels", Fate.LOST)]

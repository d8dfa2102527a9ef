"""The pages of a TIFF file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.colour import Colour
from gsrcli.images.directories import Entry, MalformedError, Tiff
from gsrcli.images.ledger import PIXELS, Fate
from gsrcli.images.ledger import Entry as LedgerEntry
from gsrcli.images.picture import Origin, Picture, Pixels, from_unit, to_unit
from gsrcli.images.readers.orientation import upright
from gsrcli.images.readers.signatures import RAW_MAGIC
from gsrcli.images.readers.source import DAMAGED, LEAST_PART, Limits, Source, appended
from gsrcli.images.readers.tiff.chunks import decompressed, stream_samples
from gsrcli.images.readers.tiff.colours import Decoded, decoded_colours
from gsrcli.images.readers.tiff.extent import unreferred
from gsrcli.images.readers.tiff.layout import Compression, Layout, Photometric, read_layout
from gsrcli.images.readers.tiff.libtiff import decoded_by_libtiff, needs_libtiff
from gsrcli.images.readers.tiff.metadata import read_metadata
from gsrcli.images.readers.tiff.raw import camera_raw, raw_error
from gsrcli.images.readers.tiff.samples import assembled, samples_of
from gsrcli.size import Size

__all__ = ["TiffSource"]

Directory: TypeAlias = dict[int, Entry]

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _COLOUR_MAP, _JPEG_TABLES = 254, 255, 320, 347
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
_BAND_BYTES = 1 << 25
_LOSSY = (Compression.JPEG, Compression.OLD_JPEG, Compression.WEBP)


class TiffSource(Source):
    """A TIFF file. Reduced copies of pages do not count as pages, nor do masks, which belong to the page before."""

    format = "TIFF"

    def __init__(self, data: bytes, limits: Limits) -> None:
        if data[:4] in RAW_MAGIC:
            raise raw_error(RAW_MAGIC[data[:4]])
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
        self._faults = () if complete else (LedgerEntry("list of pages", Fate.DAMAGED, "(later ones cannot be found)"),)
        self._appended = appended(unreferred(self._tiff, directories)) if complete else []
        self._pages, self._masks = self._sorted(directories)
        self.count = len(self._pages)
        size = read_layout(self._tiff, self._pages[0], limits).size
        self.size = size.transposed if read_metadata(self._tiff, self._pages[0]).orientation > 4 else size

    def picture(self, index: int = 0) -> Picture:
        directory = self._pages[index]
        layout = read_layout(self._tiff, directory, self._limits)
        page = read_metadata(self._tiff, directory)
        decoded = self._decode(layout, directory, page.colour.icc, page.nodata)
        if index in self._masks:
            decoded = self._masked(decoded, self._masks[index])
        if not decoded.same_numbers:
            page = page.for_other_numbers()
        in_rgb = layout.photometric == Photometric.RGB
        colour = replace(page.colour, chromaticities=page.colour.chromaticities if in_rgb else None)
        alpha = decoded.alpha
        return Picture(
            pixels=upright(decoded.pixels, page.orientation),
            alpha=None if alpha is None else upright(alpha, page.orientation),
            colour=colour if decoded.same_colours else Colour(),
            metadata=page.metadata,
            ledger=(*self._faults, *_lost_channels(layout), *decoded.entries, *page.entries, *self._appended),
            origin=Origin(self.format, lossless=layout.compression not in _LOSSY),
        )

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
            layout = read_layout(self._tiff, directory, self._limits)
            mask = self._decode(layout, directory, None, None)
        except (PictureError, MalformedError):
            return replace(decoded, entries=[*decoded.entries, LedgerEntry(what, Fate.DAMAGED)])
        if Size.of(mask.pixels) != Size.of(decoded.pixels) or mask.pixels.shape[2] > 1:
            return replace(decoded, entries=[*decoded.entries, LedgerEntry(what, Fate.LOST)])
        alpha = from_unit(to_unit(mask.pixels[..., 0]), decoded.pixels.dtype)
        return replace(
            decoded,
            alpha=alpha if decoded.alpha is None else np.minimum(alpha, decoded.alpha),
            entries=[*decoded.entries, *(replace(entry, what=what) for entry in mask.entries)],
        )

    def _decode(self, layout: Layout, directory: Directory, icc: bytes | None, nodata: float | None) -> Decoded:
        if needs_libtiff(layout):
            return decoded_by_libtiff(self._tiff, layout, directory)
        needed = [*range(layout.colours), *([] if layout.alpha is None else [layout.alpha])]
        if layout.planar:
            layout = layout.of_planes(needed)
        samples, damaged = self._samples(layout, directory)
        if needed != list(range(samples.shape[2])):
            samples = samples[..., needed]
        colour_map = directory.get(_COLOUR_MAP) if layout.photometric == Photometric.PALETTE else None
        decoded = decoded_colours(layout, samples, self._tiff.numbers(colour_map), icc, nodata)
        entries = [LedgerEntry(PIXELS, Fate.DAMAGED, "in places")] if damaged else []
        return replace(decoded, entries=[*entries, *decoded.entries])

    def _samples(self, layout: Layout, directory: Directory) -> tuple[NDArray[Any], bool]:
        """Decode a page by bands, which bound the memory: ``(H, W, samples)``, and whether some of it is damaged."""
        step = max(1, _BAND_BYTES // layout.bytes_of_band)
        whole: NDArray[Any] | None = None
        damaged, missing = False, 0
        for first in range(0, layout.down, step):
            band = layout.band(first, min(first + step, layout.down))
            if layout.compression in (Compression.JPEG, Compression.WEBP):
                samples, faults = self._stream_samples(band, directory)
                damaged |= faults > 0
            else:
                chunks = decompressed(band, self._data)
                damaged, missing = damaged or not chunks.sound, missing + chunks.missing
                samples = samples_of(band, chunks.values, self._tiff.order)
            rows = assembled(band, samples)
            if band.size == layout.size:
                whole = rows
                break
            if whole is None:
                whole = np.empty((*layout.size, rows.shape[2]), rows.dtype)
            top = first * layout.chunk.height
            whole[top : top + len(rows)] = rows
        assert whole is not None
        if missing * LEAST_PART > (LEAST_PART - 1) * layout.row_bytes * layout.chunk.height * len(layout.chunks):
            raise PictureError(DAMAGED)
        return whole, damaged

    def _stream_samples(self, layout: Layout, directory: Directory) -> tuple[Pixels, int]:
        if layout.bits != 8:
            raise PictureError(
                f"{layout.bits}-bit {layout.compression} is not supported", hint="save it with LZW compression"
            )
        tables = self._tiff.raw(directory[_JPEG_TABLES]) if _JPEG_TABLES in directory else b""
        return stream_samples(layout, self._data, tables)


def _lost_channels(layout: Layout) -> list[LedgerEntry]:
    lost = layout.samples - layout.colours - (layout.alpha is not None)
    if not lost:
        return []
    return [LedgerEntry("extra channel" if lost == 1 else f"{lost} extra channels", Fate.LOST)]

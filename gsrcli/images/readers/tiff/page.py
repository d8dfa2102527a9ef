"""Decode a page of a TIFF file, whole or some rows of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gsrcli.errors import PictureError
from gsrcli.images.description import Raster
from gsrcli.images.directories import Entry, Tiff
from gsrcli.images.ledger import PIXELS, Fate
from gsrcli.images.ledger import Entry as LedgerEntry
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.source import DAMAGED, LEAST_PART, rows_of_strip
from gsrcli.images.readers.tiff.chunks import chunks_are_sound, decompressed, stream_samples
from gsrcli.images.readers.tiff.colours import Decoded, decoded_colours
from gsrcli.images.readers.tiff.layout import Compression, Layout, Photometric, SampleFormat
from gsrcli.images.readers.tiff.libtiff import decoded_by_libtiff, needs_libtiff
from gsrcli.images.readers.tiff.samples import assembled, samples_of

__all__ = ["Directory", "Page"]

Directory: TypeAlias = dict[int, Entry]

_COLOUR_MAP, _JPEG_TABLES = 320, 347
_BAND_BYTES = 1 << 25
_MOST_BAND_BYTES = 1 << 26  # decoded, of a row of strips or tiles that is decoded at once


@dataclass(frozen=True)
class Page:
    """The pixels of a page, or of some of its rows.

    Attributes:
        tiff: the file.
        directory: the page.
        layout: how it stores its pixels.
        icc: its colour profile.
        nodata: the number that stands for no data.
    """

    tiff: Tiff
    directory: Directory
    layout: Layout
    icc: bytes | None = None
    nodata: float | None = None

    @property
    def raster(self) -> Raster:
        """The size of the pixels, and the type that they are expected to be decoded to."""
        layout = self.layout
        channels = 3 if layout.colours > 1 or layout.photometric == Photometric.PALETTE else 1
        unsigned = layout.sample_format not in (SampleFormat.SIGNED, SampleFormat.FLOAT)
        kind = np.uint8 if layout.bits <= 8 else np.uint16 if layout.bits <= 16 else np.float32
        return Raster(layout.size, channels, np.dtype(kind if unsigned else np.float32), layout.alpha is not None)

    @property
    def has_bands(self) -> bool:
        """Whether the page consists of rows of strips or tiles none of which takes much memory."""
        layout, raster = self._parted.layout, self.raster
        decoded = layout.size.width * raster.layers * raster.dtype.itemsize
        large = layout.chunk.height * max(decoded, self._row_bytes) > _MOST_BAND_BYTES
        return layout.compression != Compression.OLD_JPEG and not large

    def bands(self) -> Iterator[Page]:
        """Yield the rows of strips or tiles, one or several at a time."""
        rows = rows_of_strip(self._row_bytes)
        return (replace(self, layout=layout) for layout in self._parted.layout.bands(rows))

    @property
    def _parted(self) -> Page:
        """The page with strips as small as its compression allows."""
        if needs_libtiff(self.layout):
            return self
        return replace(self, layout=self.layout.finer(rows_of_strip(self._row_bytes)))

    @property
    def _row_bytes(self) -> int:
        """Bytes of a row of pixels before they are decoded."""
        return self.layout.bytes_of_band // self.layout.chunk.height

    def decode(self) -> Decoded:
        """Decode the pixels, as they are stored.

        Raises:
            PictureError: they are of an unsupported kind, or nearly all of them are damaged.
        """
        layout, tiff = self.layout, self.tiff
        if needs_libtiff(layout):
            return decoded_by_libtiff(tiff, layout, self.directory)
        samples, damaged = self._samples(self._needed)
        channels = self._channels
        if not layout.planar and channels != list(range(samples.shape[2])):
            samples = samples[..., channels]
        colour_map = self.directory.get(_COLOUR_MAP) if layout.photometric == Photometric.PALETTE else None
        decoded = decoded_colours(layout, samples, tiff.numbers(colour_map), self.icc, self.nodata)
        entries = [LedgerEntry(PIXELS, Fate.DAMAGED, "in places")] if damaged else []
        return replace(decoded, entries=[*entries, *decoded.entries])

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged, as far as that can be told without decoding what need not be."""
        if needs_libtiff(self.layout) or self._in_streams:
            return not any(entry.fate == Fate.DAMAGED for entry in self.decode().entries)
        return chunks_are_sound(self._needed, self.tiff.data)

    @property
    def _in_streams(self) -> bool:
        return self.layout.compression in (Compression.JPEG, Compression.WEBP)

    @property
    def _channels(self) -> list[int]:
        """The samples of a pixel that are needed."""
        return [*range(self.layout.colours), *([] if self.layout.alpha is None else [self.layout.alpha])]

    @property
    def _needed(self) -> Layout:
        """The layout, without the planes that are not needed."""
        return self.layout.of_planes(self._channels) if self.layout.planar else self.layout

    def _samples(self, layout: Layout) -> tuple[NDArray[Any], bool]:
        """Decode by bands, which bound the memory: ``(H, W, samples)``, and whether some of it is damaged."""
        whole: NDArray[Any] | None = None
        damaged, missing, top = False, 0, 0
        for band in layout.bands(_BAND_BYTES * layout.chunk.height // layout.bytes_of_band):
            if self._in_streams:
                samples, faults = self._stream_samples(band)
                damaged |= faults > 0
            else:
                chunks = decompressed(band, self.tiff.data)
                damaged, missing = damaged or not chunks.sound, missing + chunks.missing
                samples = samples_of(band, chunks.values, self.tiff.order)
            rows = assembled(band, samples)
            if band.size == layout.size:
                whole = rows
                break
            if whole is None:
                whole = np.empty((*layout.size, rows.shape[2]), rows.dtype)
            whole[top : top + len(rows)] = rows
            top += len(rows)
        assert whole is not None
        if missing * LEAST_PART > (LEAST_PART - 1) * layout.row_bytes * layout.chunk.height * len(layout.chunks):
            raise PictureError(DAMAGED)
        return whole, damaged

    def _stream_samples(self, layout: Layout) -> tuple[Pixels, int]:
        if layout.bits != 8:
            raise PictureError(
                f"{layout.bits}-bit {layout.compression} is not supported", hint="save it with LZW compression"
            )
        tables = self.tiff.raw(self.directory[_JPEG_TABLES]) if _JPEG_TABLES in self.directory else b""
        return stream_samples(layout, self.tiff.data, tables)

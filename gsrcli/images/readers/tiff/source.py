"""The pages of a TIFF file."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
from PIL import Image

from gsrcli.errors import PictureError
from gsrcli.images.colour import Colour
from gsrcli.images.directories import (
    LONG,
    SHORT,
    Entry,
    MalformedError,
    PackedPage,
    Tags,
    Tiff,
    pack_directory,
    pack_file,
)
from gsrcli.images.ledger import Entry as LedgerEntry
from gsrcli.images.ledger import Fate
from gsrcli.images.picture import Origin, Picture, Pixels
from gsrcli.images.readers.pillow import colour_and_alpha, upright
from gsrcli.images.readers.source import DAMAGED, Limits, Source
from gsrcli.images.readers.tiff.chunks import REVERSED_BITS, chunk_bytes, stream_samples
from gsrcli.images.readers.tiff.colours import Decoded, decoded_colours
from gsrcli.images.readers.tiff.layout import Compression, Layout, Photometric, read_layout
from gsrcli.images.readers.tiff.metadata import read_metadata
from gsrcli.images.readers.tiff.raw import RAW_MAGIC, camera_raw, raw_error
from gsrcli.images.readers.tiff.samples import assembled, samples_of
from gsrcli.runtime.native import native_output

__all__ = ["TiffSource"]

_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _COLOUR_MAP, _JPEG_TABLES = 254, 255, 320, 347
_REDUCED, _MASK = 1, 4
_OLD_REDUCED = 2
_MOST_SAMPLES = 4
_LOSSY = (Compression.JPEG, Compression.OLD_JPEG, Compression.WEBP)
# libtiff silently fills up a fax page whose data end early. So behind the data come codes that do not exist, which it
# reports. In T.4 they follow ends of line, because it looks for one.
_NO_RUN_CODE, _NO_MODE_CODE, _END_OF_LINE = b"\0\x81", b"\x02", b"\0\x10\x0f"
_FAX_ENDS = {
    Compression.CCITT_RLE: _NO_RUN_CODE * 32,
    Compression.CCITT_RLE_WORDS: _NO_RUN_CODE * 32,
    Compression.CCITT_T4: _END_OF_LINE * 32,
    Compression.CCITT_T6: _NO_MODE_CODE * 32,
}
# Compressions of pictures instead of bytes.
_LIBTIFF_ALONE = (
    *_FAX_ENDS,
    Compression.OLD_JPEG,
    Compression.NEXT,
    Compression.THUNDERSCAN,
)
# What these need, and YCbCr; the tags of old JPEG hold offsets in the file.
_CODING_TAGS = (284, 292, 293, 320, 338, 529, 530, 531, 532)
_OLD_JPEG_TAGS = (512, 513, 514, 515, 517, 518, 519, 520, 521)


class TiffSource(Source):
    """A TIFF file. Reduced copies of other pages, and masks, do not count as pages."""

    format = "TIFF"

    def __init__(self, data: bytes, limits: Limits) -> None:
        if data[:4] in RAW_MAGIC:
            raise raw_error(RAW_MAGIC[data[:4]])
        self._data, self._limits = data, limits
        try:
            self._tiff = Tiff(data)
            directories = list(self._tiff.directories())
        except MalformedError:
            raise PictureError(DAMAGED) from None
        if not directories:
            raise PictureError(DAMAGED)
        if raw := camera_raw(self._tiff, directories):
            raise raw_error(raw)
        self._pages = [directory for directory in directories if not self._accompanies(directory)] or directories[:1]
        self.count = len(self._pages)
        size = read_layout(self._tiff, self._pages[0], limits).size
        self.size = size.transposed if read_metadata(self._tiff, self._pages[0]).orientation > 4 else size

    def picture(self, index: int = 0) -> Picture:
        directory = self._pages[index]
        layout = read_layout(self._tiff, directory, self._limits)
        page = read_metadata(self._tiff, directory)
        decoded = self._decode(layout, directory, page.icc, page.nodata)
        if not decoded.same_numbers:
            page = page.for_other_numbers()
        alpha = decoded.alpha
        return Picture(
            pixels=upright(decoded.pixels, page.orientation),
            alpha=None if alpha is None else upright(alpha, page.orientation),
            colour=Colour(icc=page.icc if decoded.same_colours else None),
            metadata=page.metadata,
            ledger=(*_lost_channels(layout), *decoded.entries, *page.entries),
            origin=Origin(self.format, lossless=layout.compression not in _LOSSY),
        )

    def _accompanies(self, directory: dict[int, Entry]) -> bool:
        """Return whether a directory is no page of its own, but a reduced copy of one or a mask."""
        kind = self._tiff.first_number(directory.get(_SUBFILE_TYPE))
        return bool(kind & (_REDUCED | _MASK)) or (
            self._tiff.first_number(directory.get(_OLD_SUBFILE_TYPE)) == _OLD_REDUCED
        )

    def _decode(self, layout: Layout, directory: dict[int, Entry], icc: bytes | None, nodata: float | None) -> Decoded:
        ycbcr = layout.photometric == Photometric.YCBCR and (layout.compression != Compression.JPEG or layout.planar)
        if layout.compression in _LIBTIFF_ALONE or ycbcr:
            return self._decoded_by_pillow(layout, directory)
        needed = [*range(layout.colours), *([] if layout.alpha is None else [layout.alpha])]
        if layout.planar:
            layout = layout.of_planes(needed)
        entries = []
        if layout.compression in (Compression.JPEG, Compression.WEBP):
            samples, damaged = self._stream_samples(layout, directory)
            if damaged:
                entries.append(LedgerEntry("picture data", Fate.DAMAGED))
        else:
            samples = samples_of(layout, chunk_bytes(layout, self._data), self._tiff.order)
        page = assembled(layout, samples)
        if not layout.planar and needed != list(range(layout.samples)):
            page = page[..., needed]
        colour_map = directory.get(_COLOUR_MAP) if layout.photometric == Photometric.PALETTE else None
        palette = self._tiff.numbers(colour_map)
        decoded = decoded_colours(layout, page, palette, icc, nodata)
        return replace(decoded, entries=[*entries, *decoded.entries])

    def _stream_samples(self, layout: Layout, directory: dict[int, Entry]) -> tuple[Pixels, int]:
        if layout.bits != 8:
            raise PictureError(
                f"{layout.bits}-bit {layout.compression.name} is not supported", hint="save it with LZW compression"
            )
        tables = self._tiff.raw(directory[_JPEG_TABLES]) if _JPEG_TABLES in directory else b""
        return stream_samples(layout, self._data, tables)

    def _decoded_by_pillow(self, layout: Layout, directory: dict[int, Entry]) -> Decoded:
        """Decode what only libtiff understands, from a file that holds nothing else."""
        name = layout.compression.name.replace("_", " ").capitalize()
        if layout.samples > _MOST_SAMPLES:
            raise PictureError(f"compression {name} of {layout.samples} samples is not supported")
        with native_output() as output:
            try:
                image = Image.open(io.BytesIO(self._bare(layout, directory)), formats=("TIFF",))
                image.load()
            except OSError:
                image = None
        if image is None and ("not configured" in output.text or "not implemented" in output.text):
            raise PictureError(f"compression {name} is not supported here", hint="save it with LZW compression")
        if image is None:
            raise PictureError(DAMAGED)
        pixels, alpha = colour_and_alpha(image)
        damage = [LedgerEntry("picture data", Fate.DAMAGED)] if output.text or layout.cut else []
        return Decoded(pixels, alpha, damage, same_numbers=layout.bits == 8)

    def _bare(self, layout: Layout, directory: dict[int, Entry]) -> bytes:
        """Return a TIFF file of a page's pixels alone."""
        tags: Tags = {
            256: (LONG, 1, struct.pack("<I", layout.size.width)),
            257: (LONG, 1, struct.pack("<I", layout.size.height)),
            258: (SHORT, layout.samples, struct.pack("<H", layout.bits) * layout.samples),
            259: (SHORT, 1, struct.pack("<H", layout.compression)),
            262: (SHORT, 1, struct.pack("<H", layout.photometric)),
            266: (SHORT, 1, struct.pack("<H", layout.fill_order)),
            277: (SHORT, 1, struct.pack("<H", layout.samples)),
        }
        if layout.tiled:
            tags[322] = (LONG, 1, struct.pack("<I", layout.chunk.width))
            tags[323] = (LONG, 1, struct.pack("<I", layout.chunk.height))
        else:
            tags[278] = (LONG, 1, struct.pack("<I", layout.chunk.height))
        old_jpeg = layout.compression == Compression.OLD_JPEG
        for tag in (*_CODING_TAGS, *(_OLD_JPEG_TAGS if old_jpeg else ())):
            if entry := directory.get(tag):
                tags[tag] = entry.kind, entry.count, self._tiff.little_endian(entry)
        if old_jpeg:
            return self._with_directory(tags, layout)
        end = _FAX_ENDS.get(layout.compression, b"")
        end = REVERSED_BITS[np.frombuffer(end, np.uint8)].tobytes() if layout.fill_order == 2 else end
        chunks = [self._data[start : start + size] + end for start, size in layout.chunks]
        return pack_file([PackedPage(tags, chunks, layout.tiled)])

    def _with_directory(self, tags: Tags, layout: Layout) -> bytes:
        """Return the whole file with another first directory, at its end, because tags hold offsets in the file."""
        starts, sizes = zip(*layout.chunks, strict=True)
        tags[273] = LONG, len(starts), struct.pack(f"<{len(starts)}I", *starts)
        tags[279] = LONG, len(sizes), struct.pack(f"<{len(sizes)}I", *sizes)
        end = len(self._data) + len(self._data) % 2
        header = struct.pack("<2sHI", b"II", 42, end)
        return b"".join((header, self._data[8:], b"\0" * (end - len(self._data)), pack_directory(tags, end)))


def _lost_channels(layout: Layout) -> list[LedgerEntry]:
    lost = layout.samples - layout.colours - (layout.alpha is not None)
    if not lost:
        return []
    return [LedgerEntry("extra channel" if lost == 1 else f"{lost} extra channels", Fate.LOST)]

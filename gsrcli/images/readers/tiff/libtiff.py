"""Decode with libtiff, as it comes with Pillow, what only libtiff understands: fax pages, old JPEG, YCbCr."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from gsrcli.errors import PictureError
from gsrcli.images.directories import LONG, SHORT, Entry, PackedPage, Tags, Tiff, pack_directory, pack_file
from gsrcli.images.ledger import PIXELS, Fate
from gsrcli.images.ledger import Entry as LedgerEntry
from gsrcli.images.readers.pillow import colour_and_alpha
from gsrcli.images.readers.source import DAMAGED
from gsrcli.images.readers.tiff.chunks import REVERSED_BITS
from gsrcli.images.readers.tiff.colours import Decoded
from gsrcli.images.readers.tiff.layout import Compression, Layout, Photometric
from gsrcli.runtime.native import native_output

__all__ = ["decoded_by_libtiff", "needs_libtiff"]

_MOST_SAMPLES = 4
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
_OF_PICTURES = (
    *_FAX_ENDS,
    Compression.OLD_JPEG,
    Compression.NEXT,
    Compression.THUNDERSCAN,
)
# What these need, and YCbCr, with the number of values where it is fixed: options of T.4 and T.6, colour map, extra
# samples, and YCbCr's factors, subsampling, positions and range.
_CODING_TAGS = {292: 1, 293: 1, 320: None, 338: None, 529: 3, 530: 2, 531: 1, 532: 6}
_OLD_JPEG_TAGS = {512: 1, 513: 1, 514: 1, 515: 1, 517: None, 518: None, 519: None, 520: None, 521: None}


def needs_libtiff(layout: Layout) -> bool:
    """Return whether only libtiff understands a page: its compression, or its YCbCr outside of JPEG streams."""
    streams = layout.compression in (Compression.JPEG, Compression.WEBP) and not layout.planar
    return layout.compression in _OF_PICTURES or (layout.photometric == Photometric.YCBCR and not streams)


def decoded_by_libtiff(tiff: Tiff, layout: Layout, directory: dict[int, Entry]) -> Decoded:
    """Decode a page that only libtiff understands, from a file that holds nothing else.

    Raises:
        PictureError: it is damaged, or of a kind that this libtiff or Pillow does not support.
    """
    if layout.photometric == Photometric.YCBCR and layout.bits != 8:
        raise PictureError(f"{layout.bits}-bit YCbCr is not supported", hint="save it as RGB")
    if layout.samples > _MOST_SAMPLES:
        raise PictureError(f"compression {layout.compression} of {layout.samples} samples is not supported")
    with native_output() as output:
        try:
            image = Image.open(io.BytesIO(_bare(tiff, layout, directory)), formats=("TIFF",))
            image.load()
        except OSError:
            image = None
    if image is None and ("not configured" in output.text or "not implemented" in output.text):
        raise PictureError(
            f"compression {layout.compression} is not supported here", hint="save it with LZW compression"
        )
    if image is None:
        raise PictureError(DAMAGED)
    pixels, alpha = colour_and_alpha(image)
    damage = [LedgerEntry(PIXELS, Fate.DAMAGED, "in places")] if output.text or layout.cut else []
    return Decoded(pixels, alpha, damage, same_numbers=layout.bits == 8)


def _bare(tiff: Tiff, layout: Layout, directory: dict[int, Entry]) -> bytes:
    """Return a TIFF file of a page's pixels alone."""
    tags: Tags = {
        256: (LONG, 1, struct.pack("<I", layout.size.width)),
        257: (LONG, 1, struct.pack("<I", layout.size.height)),
        258: (SHORT, layout.samples, struct.pack("<H", layout.bits) * layout.samples),
        259: (SHORT, 1, struct.pack("<H", layout.compression)),
        262: (SHORT, 1, struct.pack("<H", layout.photometric)),
        266: (SHORT, 1, struct.pack("<H", layout.fill_order)),
        277: (SHORT, 1, struct.pack("<H", layout.samples)),
        284: (SHORT, 1, struct.pack("<H", 2 if layout.planar else 1)),
    }
    if layout.tiled:
        tags[322] = (LONG, 1, struct.pack("<I", layout.chunk.width))
        tags[323] = (LONG, 1, struct.pack("<I", layout.chunk.height))
    else:
        tags[278] = (LONG, 1, struct.pack("<I", layout.chunk.height))
    old_jpeg = layout.compression == Compression.OLD_JPEG
    for tag, count in (_CODING_TAGS | (_OLD_JPEG_TAGS if old_jpeg else {})).items():
        entry = directory.get(tag)
        if entry and count in (None, entry.count):
            tags[tag] = entry.kind, entry.count, tiff.little_endian(entry)
    if old_jpeg:
        return _with_directory(tiff, tags, layout)
    end = _FAX_ENDS.get(layout.compression, b"")
    end = REVERSED_BITS[np.frombuffer(end, np.uint8)].tobytes() if layout.fill_order == 2 else end
    chunks = [tiff.data[start : start + size] + end for start, size in layout.chunks]
    if layout.compression == Compression.NONE:
        tags[259], tags[266] = ((SHORT, 1, struct.pack("<H", value)) for value in (Compression.DEFLATE, 1))
        chunks = [_deflated(layout, chunk, size) for chunk, (_, size) in zip(chunks, layout.chunks, strict=True)]
    return pack_file([PackedPage(tags, chunks, layout.tiled)])


def _deflated(layout: Layout, chunk: bytes, size: int) -> bytes:
    """Compress a chunk, filled up to its stated size, because Pillow decodes others itself, without subsampling."""
    stored = REVERSED_BITS[np.frombuffer(chunk, np.uint8)].tobytes() if layout.fill_order == 2 else chunk
    return zlib.compress(stored.ljust(min(size, layout.chunk.height * layout.row_bytes), b"\0"), 1)


def _with_directory(tiff: Tiff, tags: Tags, layout: Layout) -> bytes:
    """Return the whole file with another first directory, at its end, because tags hold offsets in the file."""
    length = len(tiff.data)
    starts, sizes = zip(*((min(start, length), min(size, length)) for start, size in layout.chunks), strict=True)
    tags[273] = LONG, len(starts), struct.pack(f"<{len(starts)}I", *starts)
    tags[279] = LONG, len(sizes), struct.pack(f"<{len(sizes)}I", *sizes)
    end = length + length % 2
    header = struct.pack("<2sHI", b"II", 42, end)
    return b"".join((header, tiff.data[8:], b"\0" * (end - length), pack_directory(tags, end)))

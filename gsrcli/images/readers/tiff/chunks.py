"""Decompress the strips and tiles of TIFF files.

All lossless compressions of pictures of any depth are compressions of bytes, so libtiff decodes most for us as a grey
picture of bytes: a strip or tile is as wide as it has bytes in a row. JPEG streams are decoded one by one, because
unlike libtiff as it comes with Pillow, that tells damage; WebP streams, because that libtiff does not know them.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.content import Content, Part
from gsrcli.images.directories import LONG, SHORT, PackedPage, pack_file
from gsrcli.images.picture import Pixels
from gsrcli.images.readers.inflation import inflated
from gsrcli.images.readers.source import DAMAGED
from gsrcli.images.readers.tiff.layout import Compression, Layout, Photometric
from gsrcli.runtime.native import native_output
from gsrcli.size import Size

__all__ = ["REVERSED_BITS", "Chunks", "chunks_are_sound", "decompressed", "stream_samples"]

_MOST_SCANS = 100
_MOST_DAMAGED = 50  # streams of a band, which cost time to find
_SMALL = 1 << 20  # pixels
REVERSED_BITS: NDArray[np.uint8] = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)).reshape(-1, 8)[:, ::-1])
"""Each byte with its bits in reverse."""


class Chunks(NamedTuple):
    """Decompressed chunks of a page.

    Attributes:
        values: ``(chunks, rows, bytes)``; empty chunks, as in sparse files, and missing bytes are 0.
        missing: number of bytes that could not be decompressed.
        sound: whether none is missing, and all checksums are right.
    """

    values: NDArray[np.uint8]
    missing: int
    sound: bool


def decompressed(layout: Layout, data: Content) -> Chunks:
    """Decompress the chunks of a page.

    Raises:
        PictureError: too many of them are damaged, or the compression is not supported here.
    """
    values = np.zeros((len(layout.chunks), layout.chunk.height * layout.row_bytes), np.uint8)
    missing, sound = 0, True
    for indices, length, part, right in _decompressed(layout, data):
        values[indices, : part.size] = part
        missing += len(indices) * (length - part.size)
        sound = sound and right
    return Chunks(values.reshape(len(values), -1, layout.row_bytes), missing, sound and not missing)


def chunks_are_sound(layout: Layout, data: Content) -> bool:
    """Return whether all chunks of a page can be decompressed, and their checksums are right. Raises as above."""
    return all(right and part.size == length for _, length, part, right in _decompressed(layout, data))


def _decompressed(layout: Layout, data: Content) -> Iterator[tuple[list[int], int, NDArray[np.uint8], bool]]:
    """Yield of each chunk its indices, the bytes it should have, those it has, and whether these may be right."""
    decompress = _DECOMPRESSORS.get(layout.compression, _through_libtiff)
    for rows, chunks in _by_rows(layout).items():
        filled = [chunk for chunk in chunks if chunk[1]]
        for chunk, (part, right) in zip(filled, decompress(layout, data, filled, rows), strict=True):
            yield chunks[chunk], rows * layout.row_bytes, part, right


def _by_rows(layout: Layout) -> dict[int, dict[tuple[int, int], list[int]]]:
    """Sort the chunks by their number of rows: from offset and bytes to their indices, as sparse files share chunks."""
    each, left = layout.across * layout.down, layout.size.height % layout.chunk.height
    short = left if left and not layout.tiled else layout.chunk.height
    groups: dict[int, dict[tuple[int, int], list[int]]] = {}
    for index, chunk in enumerate(layout.chunks):
        rows = short if (index + 1) % each == 0 else layout.chunk.height
        groups.setdefault(rows, {}).setdefault(chunk, []).append(index)
    return groups


_Parts: TypeAlias = Iterator[tuple[NDArray[np.uint8], bool]]
"""Of each chunk the bytes, as many as there are, and whether they are known to be wrong or not."""


def _stored(layout: Layout, data: Content, chunks: Sequence[tuple[int, int]], rows: int) -> _Parts:
    """Yield the bytes of chunks that are not compressed."""
    for start, _ in chunks:
        values = np.frombuffer(data[start : start + rows * layout.row_bytes], np.uint8)
        yield REVERSED_BITS[values] if layout.fill_order == 2 else values, True


def _inflated(layout: Layout, data: Content, chunks: Sequence[tuple[int, int]], rows: int) -> _Parts:
    """Yield the bytes of deflate streams up to where they are damaged; unlike libtiff, look at their checksums."""
    for start, size in chunks:
        stream = data[start : start + size]
        if layout.fill_order == 2:
            stream = REVERSED_BITS[np.frombuffer(stream, np.uint8)].tobytes()
        values, sound = _inflate(stream, rows * layout.row_bytes)
        yield np.frombuffer(values, np.uint8), sound


def _inflate(stream: bytes, length: int) -> tuple[bytes, bool]:
    """Return the first bytes of a zlib stream, and whether no damage to it is seen."""
    inflation = zlib.decompressobj()
    try:
        values = inflation.decompress(stream, length)
    except zlib.error:
        return _inflate_to_damage(stream, length), False
    try:
        inflation.decompress(inflation.unconsumed_tail, 1)  # the checksum
    except zlib.error:
        return values, False
    return values, True


def _inflate_to_damage(stream: bytes, length: int) -> bytes:
    """Return the first bytes of a damaged zlib stream, as many as there are before the damage."""
    values = bytearray()
    for block in inflated(zlib.decompressobj(), Part.whole(stream).blocks()):
        values += block
        if len(values) >= length:
            break
    return bytes(values[:length])


def _through_libtiff(layout: Layout, data: Content, chunks: Sequence[tuple[int, int]], rows: int) -> _Parts:
    """Yield the bytes of chunks of any compression, or none of those that are cut or damaged."""
    whole = _found_by_halving(layout, [data[at : at + size] for at, size in chunks if at + size <= len(data)], rows)
    for start, size in chunks:
        yield next(whole) if start + size <= len(data) else np.zeros(0, np.uint8), True


def _found_by_halving(layout: Layout, streams: list[bytes], rows: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of each stream, or none of those that are damaged, as libtiff tells of all or of none.

    Raises:
        PictureError: many are damaged, or the compression is not supported here.
    """
    groups, damaged = [streams], 0
    while groups:
        group = groups.pop()
        values = _from_libtiff(layout, group, rows) if group else np.zeros((0, 0), np.uint8)
        if values is not None:
            yield from values.reshape(len(group), -1)
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
        elif damaged < _MOST_DAMAGED:
            damaged += 1
            yield np.zeros(0, np.uint8)
        else:
            raise PictureError(DAMAGED)


def _from_libtiff(layout: Layout, streams: list[bytes], rows: int) -> NDArray[np.uint8] | None:
    """Return the bytes of all streams, or None if one of them is damaged."""
    file = pack_file(
        [
            PackedPage(
                {
                    256: (LONG, 1, struct.pack("<I", layout.row_bytes)),
                    257: (LONG, 1, struct.pack("<I", len(streams) * rows)),
                    258: (SHORT, 1, struct.pack("<H", 8)),
                    259: (SHORT, 1, struct.pack("<H", layout.compression)),
                    262: (SHORT, 1, struct.pack("<H", Photometric.BLACK_IS_ZERO)),
                    266: (SHORT, 1, struct.pack("<H", layout.fill_order)),
                    277: (SHORT, 1, struct.pack("<H", 1)),
                    278: (LONG, 1, struct.pack("<I", rows)),
                },
                streams,
            )
        ]
    )
    with native_output() as output:
        try:
            values: NDArray[np.uint8] = np.asarray(Image.open(io.BytesIO(file), formats=("TIFF",)))
        except OSError:
            values = np.zeros(0, np.uint8)
    if "not configured" in output.text:
        raise PictureError(
            f"compression {layout.compression} is not supported here", hint="save it with LZW or deflate compression"
        )
    return None if output.text or not values.size else values


_DECOMPRESSORS: Mapping[Compression, Callable[[Layout, Content, Sequence[tuple[int, int]], int], _Parts]] = {
    Compression.NONE: _stored,
    Compression.DEFLATE: _inflated,
    Compression.OLD_DEFLATE: _inflated,
}


def stream_samples(layout: Layout, data: Content, tables: bytes) -> tuple[Pixels, int]:
    """Decode chunks that are JPEG or WebP streams.

    Args:
        layout: the layout of the page, of 8 bits.
        data: the file.
        tables: the stream of tables that JPEG streams share, or nothing.

    Returns:
        ``(chunks, rows, width, samples)``, in RGB instead of YCbCr, and the number of damaged chunks, which are filled
        as far as they can be.

    Raises:
        LimitError: they take too much work.
        PictureError: they are of an unsupported kind, or hold something else.
    """
    whole = np.zeros((len(layout.chunks), *layout.chunk, layout.samples_per_chunk), np.uint8)
    damaged = 0
    for rows, chunks in _by_rows(layout).items():
        for (start, size), indices in chunks.items():
            stream = data[start : start + size]
            if not stream:
                damaged += len(indices) if size else 0
                continue
            if layout.compression == Compression.WEBP:
                values, sound = _from_webp(layout, stream), True
            else:
                values, sound = _from_jpeg(layout, stream, tables)
            if values.shape[0] < rows or values.shape[1] < layout.chunk.width:
                raise PictureError(DAMAGED)
            for index in indices:
                whole[index, :rows] = values[:rows, : layout.chunk.width]
            damaged += 0 if sound else len(indices)
    return whole, damaged


def _from_webp(layout: Layout, stream: bytes) -> Pixels:
    """Decode a WebP stream as ``(rows, width, samples)``."""
    mode = {3: "RGB", 4: "RGBA"}.get(layout.samples_per_chunk)
    if mode is None:
        raise PictureError(f"WebP streams of {layout.samples_per_chunk} samples are not supported")
    with Image.open(io.BytesIO(stream), formats=("WEBP",)) as image:
        if image.width * image.height > 4 * layout.chunk.area + _SMALL:
            raise PictureError(DAMAGED)
        return np.asarray(image.convert(mode))


def _from_jpeg(layout: Layout, stream: bytes, tables: bytes) -> tuple[Pixels, bool]:
    """Decode a JPEG stream as ``(rows, width, samples)``; return also whether it is sound."""
    samples = layout.samples_per_chunk
    colours = {1: "GRAY", 3: "RGB", 4: "CMYK"}.get(samples)
    if colours is None:
        raise PictureError(f"JPEG streams of {samples} samples are not supported")
    ycbcr = layout.photometric == Photometric.YCBCR and samples == 3
    whole = _complete_stream(tables, stream, layout.chunk, ycbcr=ycbcr)
    try:
        return simplejpeg.decode_jpeg(whole, colours), True
    except ValueError:
        height, width, _, _ = simplejpeg.decode_jpeg_header(whole, strict=False)
        # What the decoder does not reach would otherwise show whatever was in memory before.
        grey = np.full((height, width, samples), 128, np.uint8)
        return simplejpeg.decode_jpeg(whole, colours, strict=False, buffer=grey), False


def _complete_stream(tables: bytes, stream: bytes, chunk: Size, *, ycbcr: bool) -> bytes:
    """Return a JPEG stream with the shared tables, that says what its colours are."""
    # Adobe's segment: version, flags, and 1 for YCbCr, 0 for anything else
    adobe = struct.pack(">HH5sHHHB", 0xFFEE, 14, b"Adobe", 100, 0, 0, ycbcr)
    head, scans = _segments(stream, chunk)
    return b"".join((b"\xff\xd8", adobe, _segments(tables, chunk)[0], head, scans))


def _segments(stream: bytes, chunk: Size) -> tuple[bytes, bytes]:
    """Return the segments of a JPEG stream before its first scan, without those of applications, and the rest.

    Raises:
        LimitError: there are too many scans.
        PictureError: it is of a kind that is not supported, or much larger than the chunk that it is for.
    """
    kept, at = list[bytes](), 2
    while len(head := stream[at : at + 9]) == 9 and head[0] == 0xFF:
        marker, length = head[1], int.from_bytes(head[2:4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:
            scans = stream[at:]
            if scans.count(b"\xff\xda") > _MOST_SCANS:
                raise LimitError(f"a JPEG stream in it has more than {_MOST_SCANS} scans")
            return b"".join(kept), scans
        if marker in (0xC3, 0xC7, 0xCB):
            raise PictureError("lossless JPEG is not supported", hint="save it with LZW or deflate compression")
        if marker in (0xC0, 0xC1, 0xC2):
            size = Size(*struct.unpack(">HH", head[5:9]))
            if head[4] != 8:
                raise PictureError(f"{head[4]}-bit JPEG is not supported", hint="save it with 8 or 16 bits per channel")
            if size.area > 4 * chunk.area + _SMALL:
                raise PictureError(DAMAGED)
        if not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            kept.append(stream[at : at + 2 + length])
        at += 2 + length
    return b"".join(kept), b""

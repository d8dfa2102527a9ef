"""How a page of a TIFF file stores its pixels (TIFF 6.0)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise

from gsrcli.errors import LimitError, PictureError
from gsrcli.images.directories import Entry, Tiff
from gsrcli.images.readers.source import DAMAGED, Limits
from gsrcli.size import Size

__all__ = ["Compression", "Layout", "Photometric", "SampleFormat", "read_layout"]


class Photometric(IntEnum):
    """What the samples of a pixel mean."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    MASK = 4
    CMYK = 5
    YCBCR = 6
    CIELAB = 8
    ICCLAB = 9
    ITULAB = 10
    CFA = 32803
    LOGL = 32844
    LOGLUV = 32845
    LINEAR_RAW = 34892


class SampleFormat(IntEnum):
    """How a sample is to be read."""

    UNSIGNED = 1
    SIGNED = 2
    FLOAT = 3
    UNDEFINED = 4
    COMPLEX_INTEGER = 5
    COMPLEX_FLOAT = 6


class Compression(IntEnum):
    """How strips and tiles are compressed."""

    NONE = 1
    CCITT_RLE = 2
    CCITT_T4 = 3
    CCITT_T6 = 4
    LZW = 5
    OLD_JPEG = 6
    JPEG = 7
    DEFLATE = 8
    NEXT = 32766
    CCITT_RLE_WORDS = 32771
    PACKBITS = 32773
    THUNDERSCAN = 32809
    OLD_DEFLATE = 32946
    LZMA = 34925
    ZSTANDARD = 50000
    WEBP = 50001

    def __str__(self) -> str:
        """Return its name in messages."""
        capitals = self in (Compression.LZW, Compression.JPEG, Compression.LZMA)
        return self.name if capitals else self.name.replace("_", " ").capitalize().replace("Ccitt", "CCITT")


_OTHER_COMPRESSIONS = {
    32908: "PixarFilm",
    32909: "PixarLog",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "LogLuv",
    34677: "LogLuv",
    34712: "JPEG 2000",
    34887: "LERC",
    50002: "JPEG XL",
    52546: "JPEG XL",
}

_COLOURS = {
    Photometric.RGB: 3,
    Photometric.CMYK: 4,
    Photometric.YCBCR: 3,
    Photometric.CIELAB: 3,
    Photometric.ICCLAB: 3,
}
_STRAIGHT, _PREMULTIPLIED = 2, 1
_SEPARATE = 2  # planes

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _PLANES, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA_SAMPLES, _FORMAT = 322, 323, 324, 325, 338, 339

_MOST_CHUNK_BYTES = 2**31 - 1  # libtiff's and Pillow's limit
_GROWTH = 256  # photographs and drawings stay far below it, though deflate turns a byte into up to 1032
_SMALL = 1 << 26  # bytes, for which no file is too short


@dataclass(frozen=True)
class Layout:
    """How a page stores its pixels: in strips or tiles, below called chunks; a strip is as wide as the page.

    Attributes:
        size: size of the page, in pixels.
        compression: how chunks are compressed.
        photometric: what the samples mean.
        bits: bits of a sample.
        sample_format: how a sample is to be read.
        samples: number of samples of a pixel.
        colours: number of those that are colours; the others are extra.
        alpha: index of the sample that is alpha, or None.
        premultiplied: whether colours are multiplied by alpha.
        planar: whether each sample has its own chunks, those of the first sample first.
        predictor: 1 for none, 2 for differences between pixels, 3 for those of floating point.
        fill_order: 2 if the bits of each byte are stored in reverse, otherwise 1.
        tiled: whether chunks are tiles.
        chunk: size of a chunk; the chunks in the last row and column, if they are tiles, reach out of the page.
        chunks: offset and number of bytes of each chunk, row by row.
        cut: whether chunks end behind the end of the file.
    """

    size: Size
    compression: Compression
    photometric: Photometric
    bits: int
    sample_format: SampleFormat
    samples: int
    colours: int
    alpha: int | None
    premultiplied: bool
    planar: bool
    predictor: int
    fill_order: int
    tiled: bool
    chunk: Size
    chunks: list[tuple[int, int]]
    cut: bool = False

    @property
    def across(self) -> int:
        """Number of chunks side by side."""
        return -(-self.size.width // self.chunk.width)

    @property
    def down(self) -> int:
        """Number of chunks one below the other."""
        return -(-self.size.height // self.chunk.height)

    @property
    def samples_per_chunk(self) -> int:
        """Number of samples of a pixel in one chunk."""
        return 1 if self.planar else self.samples

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a chunk."""
        return -(-self.chunk.width * self.samples_per_chunk * self.bits // 8)

    @property
    def bytes_of_band(self) -> int:
        """Bytes of a row of chunks, of all planes together."""
        return self.across * self.chunk.height * self.row_bytes * (self.samples if self.planar else 1)

    def band(self, first: int, last: int) -> Layout:
        """Return the layout of the rows of chunks [first, last) as a page of their own."""
        rows = min(self.size.height, last * self.chunk.height) - first * self.chunk.height
        starts = range(0, len(self.chunks), self.across * self.down)
        chunks = [self.chunks[start + first * self.across : start + last * self.across] for start in starts]
        return replace(self, size=Size(rows, self.size.width), chunks=[chunk for plane in chunks for chunk in plane])

    def bands(self, rows: int) -> Iterator[Layout]:
        """Yield the layouts of rows of chunks as pages, each of about so many rows, or of one row of chunks."""
        step = max(1, rows // self.chunk.height)
        return (self.band(first, min(first + step, self.down)) for first in range(0, self.down, step))

    def finer(self, most_rows: int) -> Layout:
        """Return the layout with strips of ``most_rows`` or fewer, if their bytes can be parted: if they are stored."""
        if self.tiled or self.compression != Compression.NONE or self.chunk.height <= most_rows:
            return self
        rows = next(rows for rows in range(most_rows, 0, -1) if self.chunk.height % rows == 0)
        length = rows * self.row_bytes
        each, chunks = self.down, list[tuple[int, int]]()
        for index, (start, size) in enumerate(self.chunks):
            last = index % each == each - 1
            height = self.size.height - (each - 1) * self.chunk.height if last else self.chunk.height
            chunks += [(start + at * length, length if size else 0) for at in range(-(-height // rows))]
        return replace(self, chunk=Size(rows, self.size.width), chunks=chunks)

    def of_planes(self, planes: list[int]) -> Layout:
        """Return the layout of a planar page that has only some of its planes."""
        each = self.across * self.down
        chunks = [chunk for plane in planes for chunk in self.chunks[plane * each : (plane + 1) * each]]
        return replace(self, chunks=chunks, samples=len(planes))


class _Fields:
    """The fields of a page, by tag."""

    def __init__(self, tiff: Tiff, entries: dict[int, Entry]) -> None:
        self._tiff, self._entries = tiff, entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def number(self, tag: int, default: int = 0) -> int:
        return self._tiff.first_number(self._entries.get(tag), default)

    def numbers(self, tag: int) -> list[int]:
        return self._tiff.numbers(self._entries.get(tag)).tolist()


@dataclass(frozen=True)
class _Samples:
    """The samples of a pixel: what they mean, their number, how many of them are colours, bits and format of each."""

    photometric: Photometric
    count: int
    colours: int
    bits: int
    format: int


def read_layout(tiff: Tiff, entries: dict[int, Entry], limits: Limits) -> Layout:
    """Read and check the layout of a page.

    Raises:
        LimitError: the page is too large, or larger than the file can hold.
        PictureError: the layout is not supported, or makes no sense.
    """
    page, held = _Fields(tiff, entries), len(tiff.data)
    size = _size(page, limits)
    samples = _samples(page)
    alpha, premultiplied = _alpha(page.numbers(_EXTRA_SAMPLES), samples.count, samples.colours)
    layout = Layout(
        size=size,
        chunk=_chunk_size(page, size),
        compression=_compression(page.number(_COMPRESSION, Compression.NONE)),
        photometric=samples.photometric,
        bits=samples.bits,
        sample_format=_sample_format(samples.format),
        samples=samples.count,
        colours=samples.colours,
        alpha=alpha,
        premultiplied=premultiplied,
        planar=page.number(_PLANES, 1) == _SEPARATE and samples.count > 1,
        predictor=page.number(_PREDICTOR, 1),
        fill_order=page.number(_FILL_ORDER, 1),
        tiled=_TILE_WIDTH in page,
        chunks=[],
    )
    _believe(layout, held)
    return _with_chunks(layout, _chunks(page, layout, held), held)


def _size(page: _Fields, limits: Limits) -> Size:
    size = Size(page.number(_HEIGHT), page.number(_WIDTH))
    if not size.area:
        raise PictureError(DAMAGED)
    limits.check(size)
    return size


def _samples(page: _Fields) -> _Samples:
    depths = page.numbers(_BITS) or [1]
    formats = page.numbers(_FORMAT) or [SampleFormat.UNSIGNED]
    count = page.number(_SAMPLES, len(depths))
    usual = Photometric.BLACK_IS_ZERO if count < 3 else Photometric.RGB
    photometric = _photometric(page.number(_PHOTOMETRIC, usual))
    colours = _colours(photometric, count)
    if len(set(depths[:count])) > 1 or len(set(formats[:count])) > 1:
        raise PictureError("samples of different kinds in one pixel are not supported")
    if not colours <= count < 65536 or not 1 <= depths[0] <= 64:
        raise PictureError(DAMAGED)
    return _Samples(photometric, count, colours, depths[0], formats[0])


def _colours(photometric: Photometric, samples: int) -> int:
    """Return how many samples of a pixel are colours. Lab may have its lightness alone."""
    if photometric in (Photometric.CIELAB, Photometric.ICCLAB) and samples < 3:
        return 1
    return _COLOURS.get(photometric, 1)


def _chunk_size(page: _Fields, size: Size) -> Size:
    """Return the size of a tile, or of a strip, which is the whole page unless it says otherwise."""
    if _TILE_WIDTH in page:
        chunk = Size(page.number(_TILE_HEIGHT), page.number(_TILE_WIDTH))
    else:
        rows = page.number(_STRIP_ROWS) or size.height
        chunk = Size(min(rows, size.height), size.width)
    if not chunk.area:
        raise PictureError(DAMAGED)
    return chunk


def _photometric(value: int) -> Photometric:
    if value in (Photometric.LOGL, Photometric.LOGLUV):
        raise PictureError("LogLuv pixels are not supported", hint="save it with 32-bit floating-point values")
    if value == Photometric.ITULAB or value not in list(Photometric):
        name = "ITU Lab" if value == Photometric.ITULAB else f"photometric interpretation {value}"
        raise PictureError(f"{name} is not supported", hint="save it as RGB")
    return Photometric(value)


def _compression(value: int) -> Compression:
    if value not in list(Compression):
        name = _OTHER_COMPRESSIONS.get(value, f"of kind {value}")
        raise PictureError(f"compression {name} is not supported", hint="save it with LZW or deflate compression")
    return Compression(value)


def _sample_format(value: int) -> SampleFormat:
    if value in (SampleFormat.COMPLEX_INTEGER, SampleFormat.COMPLEX_FLOAT):
        raise PictureError("complex numbers are not supported")
    return SampleFormat(value) if value in list(SampleFormat) else SampleFormat.UNSIGNED


def _alpha(extra: list[int], samples: int, colours: int) -> tuple[int | None, bool]:
    """Return the index of the sample that is alpha, and whether colours are multiplied by it.

    Programs take a single extra sample for alpha, unless the file declares it to be something else.
    """
    if not extra and samples == colours + 1:
        return colours, False
    for index, kind in enumerate(extra[: samples - colours]):
        if kind in (_STRAIGHT, _PREMULTIPLIED):
            return colours + index, kind == _PREMULTIPLIED
    return None, False


def _believe(layout: Layout, held: int) -> None:
    """Check that the file can hold what it claims to, before memory is allocated for it.

    Raises:
        LimitError: it can hardly.
    """
    planes = layout.samples if layout.planar else 1
    count = layout.across * layout.down
    claimed = count * planes * layout.row_bytes * layout.chunk.height
    growth = 2 if layout.compression == Compression.NONE else _GROWTH  # YCbCr may be stored in half of its bytes
    if claimed > growth * held + _SMALL or count > held or layout.chunk.height * layout.row_bytes > _MOST_CHUNK_BYTES:
        raise LimitError(f"it claims {claimed / 1e6:.0f} MB of pixels, which its {held} bytes can hardly hold")


def _chunks(page: _Fields, layout: Layout, held: int) -> list[tuple[int, int]]:
    """Return offset and bytes of each chunk. Missing or empty byte counts reach to the next chunk, as in old files."""
    count = layout.across * layout.down * (layout.samples if layout.planar else 1)
    names = (_TILES, _TILE_BYTES) if layout.tiled and _TILES in page else (_STRIPS, _STRIP_BYTES)
    starts, sizes = (page.numbers(name)[:count] for name in names)
    if len(starts) < count:
        raise PictureError(DAMAGED)
    if len(sizes) < count or (not any(sizes) and layout.compression != Compression.NONE):
        following = sorted({*starts, held})
        after = dict(pairwise(following))
        sizes = [after.get(start, start) - start for start in starts]
    elif layout.compression == Compression.NONE:
        whole = layout.chunk.height * layout.row_bytes
        sizes = [size or (whole if start else 0) for start, size in zip(starts, sizes, strict=True)]
    return list(zip(starts, sizes, strict=True))


def _with_chunks(layout: Layout, chunks: list[tuple[int, int]], held: int) -> Layout:
    """Return the layout with its chunks.

    Raises:
        PictureError: they overlap too much.
    """
    if sum(max(0, min(size, held - start)) for start, size in set(chunks)) > 4 * held:
        raise PictureError(DAMAGED)
    return replace(layout, chunks=chunks, cut=any(start + size > held for start, size in chunks))

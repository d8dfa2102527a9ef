"""How a page of a TIFF file stores its pixels (TIFF 6.0)."""

from __future__ import annotations

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

    def of_planes(self, planes: list[int]) -> Layout:
        """Return the layout of a planar page that has only some of its planes."""
        each = self.across * self.down
        chunks = [chunk for plane in planes for chunk in self.chunks[plane * each : (plane + 1) * each]]
        return replace(self, chunks=chunks, samples=len(planes))


def read_layout(tiff: Tiff, entries: dict[int, Entry], limits: Limits) -> Layout:
    """Read and check the layout of a page.

    Raises:
        LimitError: the page is too large, or larger than the file can hold.
        PictureError: the layout is not supported, or makes no sense.
    """

    def first(tag: int, default: int = 0) -> int:
        return tiff.first_number(entries.get(tag), default)

    size = Size(first(257), first(256))
    if not size.area:
        raise PictureError(DAMAGED)
    limits.check(size)
    depths = tiff.numbers(entries.get(258)).tolist() or [1]
    formats = tiff.numbers(entries.get(339)).tolist() or [SampleFormat.UNSIGNED]
    samples = first(277, len(depths))
    photometric = _photometric(first(262, Photometric.BLACK_IS_ZERO if samples < 3 else Photometric.RGB))
    lightness = photometric in (Photometric.CIELAB, Photometric.ICCLAB) and samples < 3
    colours = 1 if lightness else _COLOURS.get(photometric, 1)
    if len(set(depths[:samples])) > 1 or len(set(formats[:samples])) > 1:
        raise PictureError("samples of different kinds in one pixel are not supported")
    if not colours <= samples < 65536 or not 1 <= depths[0] <= 64:
        raise PictureError(DAMAGED)
    alpha, premultiplied = _alpha(tiff.numbers(entries.get(338)).tolist(), samples, colours)
    tiled = 322 in entries
    chunk = (
        Size(first(323), first(322))
        if tiled
        else Size(min(first(278, size.height) or size.height, size.height), size.width)
    )
    if not chunk.area:
        raise PictureError(DAMAGED)
    layout = Layout(
        size=size,
        compression=_compression(first(259, Compression.NONE)),
        photometric=photometric,
        bits=depths[0],
        sample_format=_sample_format(formats[0]),
        samples=samples,
        colours=colours,
        alpha=alpha,
        premultiplied=premultiplied,
        planar=first(284, 1) == 2 and samples > 1,
        predictor=first(317, 1),
        fill_order=first(266, 1),
        tiled=tiled,
        chunk=chunk,
        chunks=[],
    )
    _believe(layout, len(tiff.data))
    chunks = _chunks(tiff, entries, layout)
    held = sum(max(0, min(size, len(tiff.data) - start)) for start, size in set(chunks))
    if held > 4 * len(tiff.data):
        raise PictureError(DAMAGED)  # they overlap too much
    return replace(layout, chunks=chunks, cut=any(start + size > len(tiff.data) for start, size in chunks))


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


def _chunks(tiff: Tiff, entries: dict[int, Entry], layout: Layout) -> list[tuple[int, int]]:
    """Return offset and bytes of each chunk. Missing or empty byte counts reach to the next chunk, as in old files."""
    count = layout.across * layout.down * (layout.samples if layout.planar else 1)
    names = (324, 325) if layout.tiled and 324 in entries else (273, 279)
    starts, sizes = (tiff.numbers(entries.get(name)).tolist()[:count] for name in names)
    if len(starts) < count:
        raise PictureError(DAMAGED)
    if len(sizes) < count or (not any(sizes) and layout.compression != Compression.NONE):
        following = sorted({*starts, len(tiff.data)})
        after = dict(pairwise(following))
        sizes = [after.get(start, start) - start for start in starts]
    elif layout.compression == Compression.NONE:
        whole = layout.chunk.height * layout.row_bytes
        sizes = [size or (whole if start else 0) for start, size in zip(starts, sizes, strict=True)]
    return list(zip(starts, sizes, strict=True))
